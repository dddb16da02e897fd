"""The store as the recorder sees it.

In: batches of rows, each batch one table and one day. Out: batches that are on disk, whole, when `append` returns.
Never: a batch half on disk; a row that is dropped without being named. Adapter: `parquet.py`; reading: `duck.py`.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from shared.messages import Message


class Row(msgspec.Struct, frozen=True):
    """Hold one message with its envelope; the three stream fields are None for what came without a stream."""

    message: Message
    subject: str
    recorded_at_ns: int
    stream: str | None = None
    stream_sequence: int | None = None
    message_hash: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """Hold the rows of one table and one UTC day (`YYYY-MM-DD`)."""

    table: str
    day: str
    rows: Sequence[Row]


class Rejected(msgspec.Struct, frozen=True):
    """Name a row that no column can hold, and why."""

    row: Row
    reason: str


class Appended(msgspec.Struct, frozen=True):
    """Tell what one batch became on disk."""

    rows: int
    bytes: int
    rejected: tuple[Rejected, ...] = ()


class Tidied(msgspec.Struct, frozen=True):
    """Tell what one step of housekeeping did; `more` when another step would find work."""

    merged_files: int = 0
    removed_files: int = 0
    quarantined: tuple[str, ...] = ()
    more: bool = False


class Store(Protocol):
    """Keep rows. All methods block and raise StoreUnavailableError when the disk refuses."""

    def open(self) -> Tidied:
        """Claim the store for this process and repair what a crash left behind."""
        ...

    def append(self, batch: Batch) -> Appended:
        """Write a batch durably, all of it or nothing.

        After a failure the same batch, also a longer one that begins with it, must be appended again or given up.
        """
        ...

    def tidy(self) -> Tidied:
        """Do one bounded step of housekeeping: merge small files, remove what is merged or past retention.

        Safe beside `append` in another thread.
        """
        ...

    def close(self) -> None:
        """Release the claim."""
        ...
