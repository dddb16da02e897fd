"""Bringing a venue's history into the catalogue, also after any number of interruptions.

In: a source, a series, a range. Out: the series complete within the range, as far as the venue has bars.
Never: an open bar; a hole that the venue was not asked about twice; a bar asked for again once it is kept.

What is done is what the manifest says is covered: an interrupted download goes on exactly there, and so does another
range that overlaps it. A page is refused as a whole when its times are not on the grid.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from shared.errors import UnavailableError
from shared.exchange.history import CandleSource, RawCandle
from shared.store.catalogue.catalogue import Catalogue, Range, Written, subtract, union
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.numbers import parse_numbers
from shared.store.catalogue.rows import BARS, bars_table

# A bar is final some time after its end: venues still add the last trades to it.
GRACE_NS = 10_000_000_000
PAGES_PER_COMMIT = 10
DISTRUST_MAX = 4
ROWS_BESIDE_HOLE = 2
DAY_NS = 86_400_000_000_000
VALUES = ("open", "high", "low", "close", "volume")


class Downloaded(msgspec.Struct, frozen=True):
    """Tell what a download of one series did; `refused` rows had values that nothing can have.

    `empty` counts bars that the venue has not, `notes` say in words what else it did not give.
    """

    series: SeriesKey
    added: int = 0
    same: int = 0
    conflicts: int = 0
    refused: int = 0
    requests: int = 0
    empty: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    notes: tuple[str, ...] = ()


class Checked(msgspec.Struct, frozen=True):
    """Hold a page's good bars and what was left out."""

    table: pa.Table
    refused: tuple[Range, ...]


Progress = Callable[[int], None]


class Download:
    """Download one series; made for each call of `run`."""

    def __init__(
        self, catalogue: Catalogue, source: CandleSource, key: SeriesKey, *, replace: bool = False,
        on_progress: Progress = lambda _: None,
    ) -> None:  # fmt: skip
        self._catalogue, self._source, self._key = catalogue, source, key
        self._replace, self._on_progress = replace, on_progress
        self._interval_ns = key.interval_ns
        self._pages: list[pa.Table] = []
        self._answered: list[Range] = []
        self._result = Downloaded(key)
        self._longest = 0

    @property
    def result(self) -> Downloaded:
        """Return what has been kept so far."""
        return self._result

    async def run(self, start_ns: int, end_ns: int, *, again: bool = False) -> Downloaded:
        """Bring in every closed bar that opens in `[start_ns, end_ns)`; `again` also asks for what is covered.

        Progress is told in nanoseconds of history. Raises UnavailableError; what came before is kept.
        """
        closed_ns = await self._source.now_ns() - GRACE_NS
        # The last bar that may be taken ends at or before `closed_ns`.
        end_ns = min(_ceil(end_ns, self._interval_ns), closed_ns // self._interval_ns * self._interval_ns)
        start_ns = _ceil(start_ns, self._interval_ns)
        manifest = self._catalogue.manifest(self._key)
        covered = () if again or manifest is None else manifest.covered
        left = subtract((start_ns, end_ns), covered) if start_ns < end_ns else []
        self._on_progress(max(0, end_ns - start_ns) - sum(end - begin for begin, end in left))
        try:
            for begin, end in left:
                await self._range(begin, end)
        finally:
            # Also when cancelled: every page that came is kept.
            self._commit()
        return self._result

    async def _range(self, begin: int, end: int) -> None:
        page_ns = self._source.page_bars * self._interval_ns
        is_first = True
        while begin < end:
            until = min(begin + page_ns, end)
            checked = await self._page(begin, until)
            is_first = is_first and not checked.table.num_rows
            if is_first and until < end:
                until = await self._first_bar(until, end)
            self._keep(checked, (begin, until))
            self._on_progress(until - begin)
            begin, is_first = until, False

    async def _page(self, begin: int, until: int) -> Checked:
        """Return a page; a hole is believed when a second answer has it too.

        The second question takes in the bars beside the holes: an answer that lacks one of those is none. An answer as
        long as the longest so far may have been cut at the venue's limit: what lies beyond its ends stays open.
        """
        checked = check_page(self._key, await self._ask(begin, until))
        self._longest = max(self._longest, checked.table.num_rows)
        believed: list[Range] = []
        distrusted = 0
        while holes := _without(_holes(checked, (begin, until), self._interval_ns), believed):
            # All holes at once; what that leaves open, one at a time.
            last = holes[0] if believed else holes[-1]
            asked = max(begin, holes[0][0] - self._interval_ns), min(until, last[1] + self._interval_ns)
            more = check_page(self._key, await self._ask(*asked))
            known, told = _open_times(checked), _open_times(more)
            self._longest = max(self._longest, len(told))
            if any(asked[0] <= time < asked[1] for time in known - told):
                distrusted += 1
                if distrusted == DISTRUST_MAX:
                    raise UnavailableError(
                        f"{self._key.venue} gives other bars of {self._key.instrument} each time: "
                        "nothing of that answer is kept; try again later"
                    )
                continue
            fresh = pa.array([time not in known for time in more.table["open_time_ns"].to_pylist()], pa.bool_())
            both = pa.concat_tables([checked.table, more.table.filter(fresh)])
            checked = Checked(both, tuple(one for one in more.refused if one[0] not in known))
            is_whole = len(told) < max(self._longest, ROWS_BESIDE_HOLE + 1)
            believed.append(asked if is_whole else (min(told), max(told)))
        return checked

    async def _first_bar(self, begin: int, end: int) -> int:
        """Return where the history begins, found on days: venues list markets long after they open."""
        if self._interval_ns >= DAY_NS:
            return begin
        step = self._source.page_bars * DAY_NS
        day = begin // DAY_NS * DAY_NS
        while day < end:
            for _ in range(2):  # an empty answer is believed when it comes twice
                self._count(requests=1)
                found = await self._source.page(self._key.instrument, "1d", day, min(day + step, end))
                if found:
                    # Some venues count a market's first, cut-off day, others do not.
                    return max(begin, found[0].open_time_ns - DAY_NS)
            day += step
        return end

    async def _ask(self, begin: int, until: int) -> list[RawCandle]:
        self._count(requests=1)
        return await self._source.page(self._key.instrument, self._key.timeframe, begin, until)

    def _keep(self, checked: Checked, asked: Range) -> None:
        self._pages.append(checked.table)
        # What was refused stays open, so that the next download asks again.
        self._answered += subtract(asked, checked.refused)
        have = checked.table.num_rows
        missing = (asked[1] - asked[0]) // self._interval_ns - have - len(checked.refused)
        self._count(refused=len(checked.refused), empty=missing)
        if len(self._pages) >= PAGES_PER_COMMIT:
            self._commit()

    def _commit(self) -> None:
        if not self._answered:
            return
        table = pa.concat_tables(self._pages)
        done: Written = self._catalogue.write(self._key, table, covered=union(self._answered), replace=self._replace)
        self._pages, self._answered = [], []
        self._count(added=done.added, same=done.same, conflicts=done.conflicts)
        if table.num_rows:
            times = table["open_time_ns"].to_numpy()
            first, last = self._result.first_ns, self._result.last_ns
            self._result = msgspec.structs.replace(
                self._result,
                first_ns=int(times.min()) if first is None else min(first, int(times.min())),
                last_ns=int(times.max()) if last is None else max(last, int(times.max())),
            )

    def _count(self, **more: int) -> None:
        changed = {name: getattr(self._result, name) + value for name, value in more.items()}
        self._result = msgspec.structs.replace(self._result, **changed)


def check_page(key: SeriesKey, rows: Sequence[RawCandle]) -> Checked:
    """Return a page's bars, equal duplicates once; a bar with impossible values, or two different ones, is refused.

    Raises UnavailableError when times are off the grid: then it is the answer to another question.
    """
    interval_ns = key.interval_ns
    for row in rows:
        if row.open_time_ns % interval_ns:
            raise UnavailableError(
                f"{key.venue} gives {key.instrument} bars off the {key.timeframe} grid ({row.open_time_ns} ns): "
                "nothing of that answer is kept"
            )
    unique: dict[int, RawCandle] = {}
    refused: set[int] = set()
    for row in rows:
        if unique.setdefault(row.open_time_ns, row) != row:
            refused.add(row.open_time_ns)
    kept = list(unique.values())
    numbers = {name: parse_numbers(pa.array([getattr(row, name) for row in kept], pa.string())) for name in VALUES}
    prices = np.stack([numbers[name].values for name in VALUES[:4]]) if kept else np.empty((4, 0))
    volume = numbers["volume"].values
    opened, high, low, close = prices
    with np.errstate(invalid="ignore"):
        good = (prices > 0).all(axis=0) & (volume >= 0)
        good &= (high >= np.maximum(opened, close)) & (low <= np.minimum(opened, close))
    good &= np.array([row.open_time_ns not in refused for row in kept], dtype=np.bool_)
    refused |= {row.open_time_ns for row, is_good in zip(kept, good.tolist(), strict=True) if not is_good}
    times = np.array([row.open_time_ns for row in kept], dtype=np.int64)
    keep = pa.array(good)
    table = bars_table(
        key,
        times[good],
        {name: numbers[name].values[good] for name in VALUES},
        {name: numbers[name].exact.filter(keep) for name in VALUES},
    )
    return Checked(table if kept else BARS.empty_table(), tuple((time, time + interval_ns) for time in sorted(refused)))


def _holes(checked: Checked, asked: Range, interval_ns: int) -> list[Range]:
    times = checked.table["open_time_ns"].to_pylist()
    return subtract(asked, [(time, time + interval_ns) for time in times])


def _without(holes: Sequence[Range], believed: Sequence[Range]) -> list[Range]:
    return [left for hole in holes for left in subtract(hole, believed)]


def _open_times(checked: Checked) -> set[int]:
    return set(checked.table["open_time_ns"].to_pylist())


def _ceil(time_ns: int, interval_ns: int) -> int:
    return -(-time_ns // interval_ns) * interval_ns
