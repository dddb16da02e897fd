"""What waits for the disk: which rows are due, how many there may be, what was lost before it came here.

In: rows and monotonic readings from the caller. Out: batches of one table and day each. Pure.
Never: more rows or bytes than the bounds; a row of a failed batch forgotten or out of order.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import groupby
from operator import attrgetter, eq

import msgspec

from shared.messages import Message, Trade, TradeBatch
from shared.store.port import Batch, Row
from shared.store.runs import Run, Runs, integers
from shared.store.tables import INT64_MAX, NANOSECONDS_PER_DAY, Table, day_of, event_time_ns

# Market data outside these years has a wrong unit: milliseconds or microseconds taken for nanoseconds, or the reverse.
MARKET_TIME_MIN_NS = 1_230_768_000_000_000_000  # 2009-01-01
MARKET_TIME_MAX_NS = 4_102_444_800_000_000_000  # 2100-01-01
_PRICES = ("trades", "bbo", "books", "bars")


class Limits(msgspec.Struct, frozen=True):
    """Bound what waits, and how long (nanoseconds)."""

    interval_ns: int
    rows_max: int
    pending_max: int
    bytes_max: int


class Entry[T](msgspec.Struct, frozen=True):
    """Hold a row, its size in bytes and what confirms it: `ticket` is None for what came without a stream."""

    row: Row
    size: int
    ticket: T | None


class Sized(msgspec.Struct, frozen=True):
    """Hold ticks that came together, and the size of each in bytes."""

    run: Run
    size: int


class Batched[T](msgspec.Struct, frozen=True):
    """Hold what one append writes: single rows, then ticks."""

    table: str
    day: str
    entries: list[Entry[T]] = msgspec.field(default_factory=list)
    runs: list[Sized] = msgspec.field(default_factory=list)

    @property
    def batch(self) -> Batch:
        """Return the rows for the store."""
        ticks = Runs([sized.run for sized in self.runs])
        if not self.entries:
            return Batch(self.table, self.day, ticks)
        return Batch(self.table, self.day, [*(entry.row for entry in self.entries), *ticks])

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return len(self.entries) + sum(len(sized.run.messages) for sized in self.runs)


class Room(Enum):
    """Tell what became of an added row."""

    TAKEN = auto()
    FULL = auto()


class Buffer[T]:
    """Hold rows until they are due; lossy and durable rows have bounds of their own."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._groups: dict[tuple[str, str], Batched[T]] = {}
        self._oldest_ns: int | None = None
        self._write_ns = 0
        # Waiting and being written, [lossy, durable].
        self._rows = [0, 0]
        self._bytes = [0, 0]
        self._waiting = 0
        self.received = 0

    @property
    def rows(self) -> int:
        """Return how many rows are not on disk, those being written included."""
        return sum(self._rows)

    @property
    def bytes(self) -> int:
        """Return their size in bytes."""
        return sum(self._bytes)

    @property
    def waiting(self) -> int:
        """Return how many rows wait for the next write."""
        return self._waiting

    @property
    def is_early(self) -> bool:
        """Tell whether enough waits to be written before its time."""
        return self._waiting >= self._limits.rows_max or self.bytes * 2 >= self._limits.bytes_max

    def age_ns(self, now_ns: int) -> int:
        """Return how long the oldest row has waited; 0 when nothing waits."""
        return 0 if self._oldest_ns is None else now_ns - self._oldest_ns

    def due_in_ns(self, now_ns: int) -> int | None:
        """Return when to write next, so that the oldest row is on disk in time; None when nothing waits."""
        if self._oldest_ns is None:
            return None
        if self.is_early:
            return 0
        reserve_ns = min(2 * self._write_ns, self._limits.interval_ns // 2)
        return max(0, self._oldest_ns + self._limits.interval_ns - reserve_ns - now_ns)

    def add(self, table: Table, entry: Entry[T], now_ns: int) -> Room:
        """Take a row, or say that there is no room; one row always fits, whatever its size."""
        durable = entry.ticket is not None
        too_many = not durable and self._rows[durable] >= self._limits.pending_max
        too_large = self._bytes[durable] + entry.size > self._limits.bytes_max
        if too_many or (too_large and self._rows[durable]):
            return Room.FULL
        day = day_of(event_time_ns(table, entry.row.message, entry.row.recorded_at_ns))
        self._group(table.name, day).entries.append(entry)
        self._take_in(1, entry.size, durable, now_ns)
        return Room.TAKEN

    def add_run(self, table: Table, run: Run, size: int, now_ns: int) -> int:
        """Take ticks of one day, `size` bytes each, and return for how many there was room: the first ones."""
        room = min(self._limits.pending_max - self._rows[0], (self._limits.bytes_max - self._bytes[0]) // max(1, size))
        taken = min(len(run.messages), max(room, 0 if self._rows[0] else 1))
        if taken <= 0:
            return 0
        if taken < len(run.messages):
            run = Run(run.messages[:taken], run.subject, run.recorded_at_ns)
        day = day_of(integers(run.messages, table.event_time)[0])
        self._group(table.name, day).runs.append(Sized(run, size))
        self._take_in(taken, taken * size, False, now_ns)
        return taken

    def take(self) -> tuple[list[Batched[T]], int]:
        """Return everything that waits, and the reading of its oldest row; it counts as held until `settle`."""
        batches = list(self._groups.values())
        oldest_ns = self._oldest_ns or 0
        self._groups, self._oldest_ns, self._waiting = {}, None, 0
        return batches, oldest_ns

    def settle(self, batch: Batched[T]) -> None:
        """Let go of a batch that is on disk."""
        for entry in batch.entries:
            durable = entry.ticket is not None
            self._rows[durable] -= 1
            self._bytes[durable] -= entry.size
        for sized in batch.runs:
            self._rows[0] -= len(sized.run.messages)
            self._bytes[0] -= len(sized.run.messages) * sized.size

    def put_back(self, batches: Iterable[Batched[T]], oldest_ns: int) -> None:
        """Take back batches that the disk refused, before anything that came since."""
        for batch in batches:
            since = self._group(batch.table, batch.day)
            self._groups[batch.table, batch.day] = Batched(
                batch.table, batch.day, batch.entries + since.entries, batch.runs + since.runs
            )
            self._waiting += batch.rows
            self._oldest_ns = oldest_ns

    def wrote_in(self, duration_ns: int) -> None:
        """Remember how long a write takes, so that the next one begins early enough."""
        self._write_ns = max(duration_ns, (3 * self._write_ns + duration_ns) // 4)

    def _group(self, table: str, day: str) -> Batched[T]:
        found = self._groups.get((table, day))
        if found is None:
            found = self._groups[table, day] = Batched(table, day)
        return found

    def _take_in(self, rows: int, size: int, durable: bool, now_ns: int) -> None:
        self._rows[durable] += rows
        self._bytes[durable] += size
        self._waiting += rows
        self.received += rows
        if self._oldest_ns is None:
            self._oldest_ns = now_ns


class Gaps:
    """Count messages that were published and never came, from the sequence numbers of each subject."""

    def __init__(self, last: dict[str, int] | None = None) -> None:
        self._last = dict(last or {})

    def missing_before(self, subject: str, sequence: int) -> int:
        """Return how many are missing before this one; a lower number is a publisher that began anew."""
        last, self._last[subject] = self._last.get(subject), sequence
        return 0 if last is None or sequence <= last else sequence - last - 1

    def missing_in(self, subject: str, sequences: Sequence[int]) -> int:
        """Return how many are missing before and between numbers that came together."""
        first, last = sequences[0], sequences[-1]
        if last - first != len(sequences) - 1 or not _rises_by_one(sequences):
            return sum(self.missing_before(subject, sequence) for sequence in sequences)
        missing = self.missing_before(subject, first)
        self._last[subject] = last
        return missing


def _rises_by_one(numbers: Sequence[int]) -> bool:
    return all(map(eq, numbers, range(numbers[0], numbers[0] + len(numbers))))


def unusable(table: Table, message: Message) -> str | None:
    """Return why a message's time cannot be right, or None."""
    time_ns = event_time_ns(table, message, 0)
    if not 0 <= time_ns <= INT64_MAX:
        return f"{table.event_time} {time_ns} is no time in nanoseconds since 1970"
    if table.name in _PRICES and not MARKET_TIME_MIN_NS <= time_ns < MARKET_TIME_MAX_NS:
        return f"{table.event_time} {time_ns} lies outside the years 2009 to 2099: is it in nanoseconds?"
    return None


def usable_runs(table: Table, run: Run) -> Iterator[Run]:
    """Yield the ticks of a run whose time can be right, in order, each run of one day."""
    read = attrgetter(table.event_time)
    times = integers(run.messages, table.event_time)
    low, high = min(times), max(times)
    is_one_day = low // NANOSECONDS_PER_DAY == high // NANOSECONDS_PER_DAY
    if is_one_day and low >= MARKET_TIME_MIN_NS and high < MARKET_TIME_MAX_NS:
        yield run
        return
    is_packed = isinstance(run.messages, TradeBatch)
    fine = [message for message in run.messages if unusable(table, message) is None]
    for _, group in groupby(fine, lambda message: read(message) // NANOSECONDS_PER_DAY):
        ticks = tuple(group)
        packed = [one for one in ticks if is_packed and isinstance(one, Trade)]
        yield Run(TradeBatch.of(packed) if packed else ticks, run.subject, run.recorded_at_ns)
