"""The operator's commands: `cascade up` runs the stack, the others ask it.

A configuration and a person's commands come in; running processes, tables and JSON go out. It must never start half a
stack on a bad configuration, leave a process behind, or change anything without saying who wanted it and why.
"""
