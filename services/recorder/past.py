"""What the store already knows at the start: where this process goes on.

In: the store's root. Out: the last number of each lossy subject, the newest step, the dead letters that are kept.
"""

from pathlib import Path

import msgspec

from shared.store.duck import open_store

DEAD_LETTERS_MAX = 20_000
_NUMBERED = ("trades", "bbo", "books")


class Step(msgspec.Struct, frozen=True):
    """Name a BarsClosed that is on disk."""

    subject: str
    stream_sequence: int
    close_time_ns: int


class Past(msgspec.Struct, frozen=True):
    """Hold what earlier runs left on disk."""

    last_sequences: dict[str, int]
    newest_step: Step | None
    dead_letters: frozenset[tuple[int, int]]


def read_past(root: Path, venue: str) -> Past:
    """Read it; raises StoreUnavailableError."""
    with open_store(root) as store:
        last: dict[str, int] = {}
        for table in _NUMBERED:
            sql = (
                f"SELECT subject, arg_max(sequence, recorded_at_ns) FROM raw.{table} "  # noqa: S608 - own names
                f"WHERE date = (SELECT max(date) FROM raw.{table}) GROUP BY subject"
            )
            last |= dict(msgspec.convert(store.query(sql).rows, list[tuple[str, int]]))
        sql = (
            "SELECT subject, stream_sequence, close_time_ns FROM raw.bars_closed "
            "WHERE venue = ? AND stream_sequence IS NOT NULL ORDER BY recorded_at_ns DESC, stream_sequence DESC LIMIT 1"
        )
        steps = [Step(*msgspec.convert(row, tuple[str, int, int])) for row in store.query(sql, [venue]).rows]
        sql = (
            "SELECT stream_sequence, message_hash FROM raw.dead_letters WHERE stream_sequence IS NOT NULL "
            "ORDER BY recorded_at_ns DESC LIMIT ?"
        )
        letters = msgspec.convert(store.query(sql, [DEAD_LETTERS_MAX]).rows, list[tuple[int, int]])
    return Past(last, steps[0] if steps else None, frozenset(letters))
