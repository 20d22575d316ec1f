"""Where object graphs come from: the running interpreter, generators."""
