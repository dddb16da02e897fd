"""Ticks as they came: messages of one subject at one moment, without a row object for each.

In: runs. Out: the same rows for whoever asks for rows, and columns that are made once for every store that wants them.
Never: a row that one store sees and another does not, or two objects for one row.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, overload

import msgspec

from shared.messages import Message, TradeBatch
from shared.store.port import Rejected, Row

if TYPE_CHECKING:
    import pyarrow as pa

type Ticks = Sequence[Message] | TradeBatch
type Columns = tuple[pa.Table, tuple[Rejected, ...]]


def integers(ticks: Ticks, name: str) -> Sequence[int]:
    """Return an integer field of each tick."""
    return ticks.integers(name) if isinstance(ticks, TradeBatch) else list(map(attrgetter(name), ticks))


class Run(msgspec.Struct, frozen=True):
    """Hold messages that came together on one subject, without a stream."""

    messages: Ticks
    subject: str
    recorded_at_ns: int


class Runs(Sequence[Row]):
    """Be the rows of runs, in order; for one thread."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._size = sum(len(run.messages) for run in runs)
        self._rows: list[Row] | None = None
        self._columns: Columns | None = None

    @property
    def messages(self) -> list[Message]:
        """Return the messages in order."""
        return list(chain.from_iterable(run.messages for run in self.runs))

    def columns(self, make: Callable[[], Columns]) -> Columns:
        """Return what `make` made the first time."""
        if self._columns is None:
            self._columns = make()
        return self._columns

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Row]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._all()[index]

    def _all(self) -> list[Row]:
        # Whoever refuses a row names it by its object.
        if self._rows is None:
            self._rows = [
                Row(message, run.subject, run.recorded_at_ns) for run in self.runs for message in run.messages
            ]
        return self._rows
