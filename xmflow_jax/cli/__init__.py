"""The command lines of `sweep` and `evaluate`, and what commands share: exit codes, one-line errors, progress."""
