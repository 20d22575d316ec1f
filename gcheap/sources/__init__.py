"""Where object graphs come from: the running interpreter, Java heap dumps, generators."""
