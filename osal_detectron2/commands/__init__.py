"""The command `osal`: a file for each subcommand, imported when it is called. Nothing imports this layer."""
