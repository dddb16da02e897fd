"""The operator's commands, one module for each kind of question."""
