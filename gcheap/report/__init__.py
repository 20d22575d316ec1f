"""Reports: functions that take data and draw it. They read no files but those they are given."""
