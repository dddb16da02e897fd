"""The research catalogue: history of bars and trades as Parquet with checksums, and the ways into it and out of it.

In: a venue's history (`download.py`), other people's files (`importer.py`). Out: arrays, exact decimals, texts
(`read.py`), findings (`verify.py`). Never: a row twice, half a change, a value repaired in silence.
"""
