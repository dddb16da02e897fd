"""The store: what the recorder kept of everything that travelled on the bus, and how to read it.

In: rows from the recorder alone. Out: Parquet files, a table and a day each; views and typed read models over them.
Never: a half-written file in sight of a reader, a price or an amount that lost a digit, a row that is there twice.
"""
