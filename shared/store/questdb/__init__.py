"""QuestDB: the store's tables in a time series database, beside the files that stay the record.

In: rows (`writer.py`), which wait in a spool on disk while the server is away. Out: typed rows (`reader.py`).
Never: a caller that waits for the database; a lost row that is not counted; a row that a retry doubles.
"""
