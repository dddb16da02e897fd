"""`cascade questdb backfill`: the catalogue's history into QuestDB, as if it had been recorded.

In: series of the catalogue. Out: rows in the tables `bars` and `trades`, through the recorder's own writer. Never: a
row twice (the tables' keys tell), a value made up, a success before QuestDB has every row.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from shared.bus import subjects
from shared.errors import StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.files import SeriesKey
from shared.store.columns import message_of
from shared.store.port import Row
from shared.store.questdb.options import WriterOptions
from shared.store.questdb.sink import Sink
from shared.store.questdb.writer import QuestdbWriter
from shared.store.tables import TABLE_BY_NAME

PART_ROWS = 50_000
FLUSH_TIMEOUT_S = 600.0
# What was never received by us counts as received when it happened.
TIME_OF = {"bars": "close_time_ns", "trades": "ts_event_ns"}


class Backfilled(msgspec.Struct, frozen=True):
    """Say how many rows of a series QuestDB has now, and how many it does not take."""

    table: str
    venue: str
    instrument: str
    timeframe: str
    rows: int
    refused: int


def backfill(
    catalogue: Catalogue,
    keys: Sequence[SeriesKey],
    sink: Sink,
    *,
    start_ns: int | None,
    end_ns: int | None,
    told: Callable[[], None] = lambda: None,
) -> list[Backfilled]:
    """Write the rows of each series with `start_ns <= time < end_ns`, and tell after each of them.

    Raises StoreUnavailableError: at once where nobody answers or the password is another one.
    """
    condition = sink.condition()
    if not condition.is_reachable:
        raise StoreUnavailableError(f"QuestDB does not answer: {condition.reason}")
    with tempfile.TemporaryDirectory(prefix="cascade-backfill-") as spool:
        # The catalogue still has everything after a power cut: the spool need not be safe from one.
        writer = QuestdbWriter(sink, Path(spool), WriterOptions(sync=False))
        writer.start()
        try:
            done = []
            for key in keys:
                done.append(_series(catalogue, key, writer, start_ns, end_ns))
                told()
            return done
        finally:
            writer.close()


def _series(
    catalogue: Catalogue, key: SeriesKey, writer: QuestdbWriter, start_ns: int | None, end_ns: int | None
) -> Backfilled:
    written = refused = 0
    first = 0
    for part in catalogue.read(key, start_ns=start_ns, end_ns=end_ns).to_batches(max_chunksize=PART_ROWS):
        whole = part
        if key.table == "trades":
            # A trade without a side is none that a table of trades can hold, and nobody makes one up.
            whole = part.filter(pc.is_valid(part.column("side")))
        appended = writer.append(key.table, list(_rows(key, whole, first)))
        first += part.num_rows
        written += appended.rows
        refused += len(appended.rejected) + part.num_rows - whole.num_rows
        # One part after the other, so that a long history does not lie in the spool as a whole.
        if not writer.flush(FLUSH_TIMEOUT_S):
            raise StoreUnavailableError(f"QuestDB does not take rows: {writer.status.detail}")
    return Backfilled(key.table, key.venue, key.instrument, key.timeframe, written, refused)


def _rows(key: SeriesKey, part: pa.RecordBatch, first: int) -> Iterator[Row]:
    kind = TABLE_BY_NAME[key.table].message
    time = TIME_OF[key.table]
    if key.table == "bars":
        subject = subjects.bar(key.timeframe, key.venue, key.instrument)
    else:
        subject = subjects.trade(key.venue, key.instrument)
    for number, values in enumerate(part.to_pylist(), start=first + 1):
        known = {"venue": key.venue, "instrument": key.instrument, "timeframe": key.timeframe}
        message = message_of(kind, {**values, **known, "ts_recv_ns": values[time], "sequence": number})
        yield Row(message, subject, values[time])
