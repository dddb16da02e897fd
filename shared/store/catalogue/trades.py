"""Bringing a venue's trades into the catalogue, also after any number of interruptions.

In: a source, a series, a range. Out: every trade of the range that the venue serves, once; `covered` says for which
times that is proven. Never: a trade twice; a stretch called complete that was not; a page that was cut taken for whole.

Venues that number their trades are followed from number to number, so a missing one shows. Others are asked for an
hour at a time, the newest first, and each minute's trades must add up to its candle.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np
import pyarrow as pa

from shared.errors import UnavailableError
from shared.exchange.history_trades import TRADES_PER_PAGE, RawTrade, TradeSource
from shared.store.catalogue.catalogue import Catalogue, Range, subtract, union
from shared.store.catalogue.download import DISTRUST_MAX, GRACE_NS, Downloaded
from shared.store.catalogue.files import SeriesKey
from shared.store.catalogue.numbers import parse_numbers
from shared.store.catalogue.rows import trades_table

MILLISECOND_NS = 1_000_000
MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
# A day of a busy market is a file of a million rows, which every commit writes anew.
TRADES_PER_COMMIT = 50_000
# No venue cuts its answers shorter than this.
CUT_ROWS_MIN = 100
# Trades add up to a candle when they come this close: venues round volumes.
VOLUME_TOLERANCE = Decimal("1e-6")


class TradeDownload:
    """Download one series of trades; made for each call of `run`."""

    def __init__(
        self, catalogue: Catalogue, source: TradeSource, key: SeriesKey, *, replace: bool = False,
        on_progress: Callable[[int], None] = lambda _: None, grace_ns: int = GRACE_NS,
        rows_per_commit: int = TRADES_PER_COMMIT,
    ) -> None:  # fmt: skip
        self._catalogue, self._source, self._key = catalogue, source, key
        self._replace, self._on_progress, self._grace_ns = replace, on_progress, grace_ns
        self._rows_per_commit = rows_per_commit
        self._rows: list[RawTrade] = []
        self._answered: list[Range] = []
        self._result = Downloaded(key)
        self._longest = CUT_ROWS_MIN

    @property
    def result(self) -> Downloaded:
        """Return what has been kept so far."""
        return self._result

    async def run(self, start_ns: int, end_ns: int, *, again: bool = False) -> Downloaded:
        """Bring in every trade of `[start_ns, end_ns)`; `again` also asks for what is covered.

        Progress is told in nanoseconds of history. Raises UnavailableError; what came before is kept.
        """
        settled_ns = await self._source.now_ns() - self._grace_ns
        end_ns = min(end_ns, settled_ns) // MILLISECOND_NS * MILLISECOND_NS
        start_ns = -(-start_ns // MILLISECOND_NS) * MILLISECOND_NS
        manifest = self._catalogue.manifest(self._key)
        covered = () if again or manifest is None else manifest.covered
        left = subtract((start_ns, end_ns), covered) if start_ns < end_ns else []
        self._on_progress(max(0, end_ns - start_ns) - sum(end - begin for begin, end in left))
        try:
            if self._source.is_numbered:
                for begin, end in left:
                    await self._by_number(begin, end)
            else:
                await self._recent(left)
        finally:
            # Also when cancelled: all that came is kept.
            self._commit()
        return self._result

    async def _by_number(self, begin: int, end: int) -> None:
        number = await self._first_number(begin)
        while begin < end:
            page = [] if number is None else await self._page(number)
            number = page[-1].number if page else None
            inside = [one for one in page if one.time_ns < end]
            # More trades of the last one's millisecond may follow on the next page.
            until = end if len(inside) < len(page) or not page else max(begin, inside[-1].time_ns)
            self._keep([one for one in inside if one.time_ns >= begin], [(begin, until)])
            self._on_progress(until - begin)
            begin, number = until, None if number is None else number + 1

    async def _page(self, number: int) -> list[RawTrade]:
        """Return trades from `number` on; a missing number is believed when a second answer does not have it either."""
        found: dict[int, RawTrade] = {}
        known: int | None = None
        for _ in range(DISTRUST_MAX):
            for one in await self._ask_numbered(number, TRADES_PER_PAGE):
                if found.setdefault(self._number_of(one), one) != one:
                    raise self._distrusted()
            found = {key: one for key, one in found.items() if key >= number}
            is_whole = bool(found) and max(found) - number + 1 == len(found)
            if is_whole or known == len(found):
                break
            known = len(found)
        # Nobody knows where a venue begins to count.
        missing = max(found) - (number or min(found)) + 1 - len(found) if found else 0
        if missing:
            self._count(empty=missing)
        return [found[key] for key in sorted(found)]

    async def _first_number(self, begin: int) -> int | None:
        """Return the number of the first trade at `begin` or later, None without any: the one before proves it."""
        newest = await self._ask_numbered(None, 1) or await self._ask_numbered(None, 1)
        if not newest or newest[-1].time_ns < begin:
            return None
        low, high = 0, self._number_of(newest[-1])
        self._count(requests=1)
        near = await self._source.between(self._key.instrument, begin, begin + HOUR_NS)
        if near:
            # The number before the first of that hour must be too early; otherwise that answer was cut.
            high = min(high, self._number_of(near[0]))
            before = await self._ask_numbered(max(high - 1, 0), 1)
            if high == 0 or (before and before[0].time_ns < begin):
                return high
        while low < high:
            middle = (low + high) // 2
            found = await self._ask_numbered(middle, 1) or await self._ask_numbered(middle, 1)
            if not found:
                raise self._distrusted()
            if found[0].time_ns >= begin:
                high = middle
            else:
                low = self._number_of(found[0]) + 1
        return high

    async def _recent(self, left: Sequence[Range]) -> None:
        for begin, until in reversed(left):
            first = begin // MINUTE_NS * MINUTE_NS  # candles tell about whole minutes
            while until > first:
                since = max(first, (until - 1) // HOUR_NS * HOUR_NS)
                if not await self._hour(since, until):
                    self._note(
                        f"{self._key.venue} serves recent trades only: it gives none of before {_minute(until)} any "
                        "more, although there were some. Older ones come from recording or from files alone"
                    )
                    return
                self._on_progress(until - since)
                until = since  # noqa: PLW2901 - what is left of the range

    async def _hour(self, begin: int, end: int) -> bool:
        """Keep a stretch of up to an hour; False when the venue has candles of it, but no trades any more."""
        rows: list[RawTrade] = []
        volumes: dict[int, Decimal] = {}
        short: list[Range] = []
        for _ in range(2):  # a shortage is believed when a second answer has it too
            self._count(requests=1)
            for candle in await self._source.minutes(self._key.instrument, begin, end):
                volumes[candle.open_time_ns] = max(volumes.get(candle.open_time_ns, Decimal(0)), Decimal(candle.volume))
            rows = max(rows, await self._whole(begin, end), key=len)
            short = _short(rows, volumes, end)
            if rows and not short:
                break
        if short and not rows:
            return False
        if short:
            self._note(
                f"{len(short)} minutes from {_minute(short[0][0])} on have fewer trades than their candles say: "
                "those that came are kept, and asked for again next time"
            )
        answered = [(begin, end // MINUTE_NS * MINUTE_NS)]
        for one in short:
            answered = [part for whole in answered for part in subtract(whole, [one])]
        self._keep(rows, answered)
        return True

    async def _whole(self, begin: int, end: int) -> list[RawTrade]:
        """Return all trades of a stretch; an answer as long as the longest so far may be cut: its halves tell."""
        self._count(requests=1)
        rows = await self._source.between(self._key.instrument, begin, end)
        is_cut = len(rows) >= self._longest
        self._longest = max(self._longest, len(rows))
        if not is_cut:
            return rows
        middle = (begin + end) // 2 // MILLISECOND_NS * MILLISECOND_NS
        if middle <= begin:
            return rows
        return await self._whole(begin, middle) + await self._whole(middle, end)

    async def _ask_numbered(self, number: int | None, limit: int) -> list[RawTrade]:
        self._count(requests=1)
        return await self._source.numbered(self._key.instrument, number, limit)

    def _number_of(self, trade: RawTrade) -> int:
        if trade.number is None:
            raise self._distrusted()
        return trade.number

    def _keep(self, rows: Sequence[RawTrade], answered: Sequence[Range]) -> None:
        self._rows += [one for one in rows if not one.is_void]
        self._answered += answered
        if len(self._rows) >= self._rows_per_commit:
            self._commit()

    def _commit(self) -> None:
        if not self._answered and not self._rows:
            return
        table, refused = trades_of(self._rows)
        # What was refused stays open, so that the next download asks again.
        answered = self._answered
        for time_ns in refused:
            answered = [part for one in answered for part in subtract(one, [(time_ns, time_ns + MILLISECOND_NS)])]
        done = self._catalogue.write(self._key, table, covered=union(answered), replace=self._replace)
        self._rows, self._answered = [], []
        self._count(added=done.added, same=done.same, conflicts=done.conflicts, refused=len(refused))
        if table.num_rows:
            times = table["ts_event_ns"].to_numpy()
            first, last = self._result.first_ns, self._result.last_ns
            self._result = msgspec.structs.replace(
                self._result,
                first_ns=int(times[0]) if first is None else min(first, int(times[0])),
                last_ns=int(times[-1]) if last is None else max(last, int(times[-1])),
            )

    def _count(self, **more: int) -> None:
        changed = {name: getattr(self._result, name) + value for name, value in more.items()}
        self._result = msgspec.structs.replace(self._result, **changed)

    def _note(self, text: str) -> None:
        self._result = msgspec.structs.replace(self._result, notes=(*self._result.notes, text))

    def _distrusted(self) -> UnavailableError:
        return UnavailableError(
            f"{self._key.venue} gives other trades of {self._key.instrument} each time: nothing of that answer is "
            "kept; try again later"
        )


def trades_of(rows: Sequence[RawTrade]) -> tuple[pa.Table, list[int]]:
    """Return trades as the catalogue keeps them, and the times of those whose price or quantity nothing can have.

    Trades without an id are told apart by their time and their place in it, as those of files are.
    """
    places: Counter[int] = Counter()
    ids = []
    for row in rows:
        ids.append(row.trade_id or f"{row.time_ns}-{places[row.time_ns]}")
        places[row.time_ns] += 1
    price = parse_numbers(pa.array([row.price for row in rows], pa.string()))
    quantity = parse_numbers(pa.array([row.quantity for row in rows], pa.string()))
    with np.errstate(invalid="ignore"):
        good = (price.values > 0) & (quantity.values > 0)
    kept = np.flatnonzero(good).tolist()
    keep = pa.array(good)
    table = trades_table(
        np.array([rows[at].time_ns for at in kept], dtype=np.int64),
        [ids[at] for at in kept],
        [rows[at].side for at in kept],
        {"price": price.values[good], "quantity": quantity.values[good]},
        {"price": price.exact.filter(keep), "quantity": quantity.exact.filter(keep)},
    )
    return table, [rows[at].time_ns for at in np.flatnonzero(~good).tolist()]


def _short(rows: Sequence[RawTrade], volumes: Mapping[int, Decimal], end: int) -> list[Range]:
    """Return the closed minutes whose trades do not add up to the volume of their candle."""
    traded: dict[int, Decimal] = {}
    for row in rows:
        minute = row.time_ns // MINUTE_NS * MINUTE_NS
        traded[minute] = traded.get(minute, Decimal(0)) + Decimal(row.quantity)
    return [
        (minute, minute + MINUTE_NS)
        for minute, volume in sorted(volumes.items())
        if minute + MINUTE_NS <= end and traded.get(minute, Decimal(0)) < volume * (1 - VOLUME_TOLERANCE)
    ]


def _minute(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns").astype("datetime64[m]")).replace("T", " ") + " UTC"
