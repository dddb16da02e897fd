"""Keep the processes of a stack running.

In: what to run, in which order, and how to ask whether it is ready. Out: running processes, restarts, an orderly stop.
`policy` and `order` decide and are pure; `runner` acts. Never: an orphan, a restart loop without end, a lost log.
"""
