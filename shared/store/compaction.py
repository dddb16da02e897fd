"""Merging small files: which ones, and how.

In: the files of one table and day. Out: a run of neighbours worth merging, and one Parquet file with all their rows.
Never: a merge that was not read back; files of other columns in one run.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from shared.store.arrow import parquet_options
from shared.store.files import Part

# An older file joins a run only when it is not much larger than the run, so that a row is rewritten log(n) times.
GROWTH_MAX = 4
# A file of this part of the bound stays as it is: in a flood each row would be rewritten twice, for no reader's gain.
LARGE_PARTS = 4
ROWS_PER_GROUP = 65_536


class DamagedPartError(Exception):
    """Name a file that cannot be read back."""

    def __init__(self, part: Part, reason: str) -> None:
        super().__init__(f"{part.path}: {reason}")
        self.part, self.reason = part, reason


def run_to_merge(parts: Sequence[Part], *, files_min: int, bytes_max: int) -> list[Part]:
    """Return neighbours (oldest first) to merge into one file of at most `bytes_max`, or nothing."""
    run: list[Part] = []
    size = 0
    for part in reversed(parts):
        is_large = part.bytes * LARGE_PARTS > bytes_max
        fits = size + part.bytes <= bytes_max and (not run or part.bytes <= GROWTH_MAX * size)
        if is_large or (run and not (fits and part.fingerprint == run[-1].fingerprint)):
            if len(run) >= files_min:
                break
            run, size = [], 0
        if not is_large:
            run.append(part)
            size += part.bytes
    return run[::-1] if len(run) >= max(files_min, 2) else []


def merged(parts: Sequence[Part]) -> pa.Buffer:
    """Return one Parquet file with the rows of all `parts`, in order, read back once.

    Raises DamagedPartError for a part that cannot be read.
    """
    sink = pa.BufferOutputStream()
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.Table] = []
    rows = 0
    try:
        for part in parts:
            table = read_part(part)
            writer = writer or pq.ParquetWriter(sink, table.schema, **parquet_options(table.schema))
            rows += table.num_rows
            waiting.append(table)
            if sum(one.num_rows for one in waiting) >= ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if writer is not None and waiting:
            writer.write_table(pa.concat_tables(waiting))
    finally:
        if writer is not None:
            writer.close()
    data = sink.getvalue()
    if (written := rows_in(data)) != rows:
        raise AssertionError(f"merged {rows} rows into {written}")
    return data


def read_part(part: Part) -> pa.Table:
    """Return the file's rows, every page's checksum compared; raises DamagedPartError, and OSError from the disk."""
    try:
        with pq.ParquetFile(part.path, page_checksum_verification=True) as file:
            return file.read()
    except (pa.ArrowInvalid, OSError) as error:
        # An error number comes from the operating system: that says nothing about the file's content.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedPartError(part, str(error)) from error


def rows_in(data: pa.Buffer) -> int:
    """Return how many rows a Parquet file in memory gives back, every page's checksum compared."""
    with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
        return sum(batch.num_rows for batch in file.iter_batches())
