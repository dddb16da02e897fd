"""Trades of a venue that does not count them, held until its own list says that none is missing.

In: usable trades as they come, the venue's list of what was traded. Out: trades for the step builder in the venue's
order, the lost ones to be published, the times of which nothing could be proven. Never: a trade counted twice, a bar
that waits for a venue which does not answer for longer than told.

A frame that is lost on a living socket leaves no mark. So what the stream brought is compared with the venue's list
every few seconds, and again up to a step's end before that step closes: the list goes back only so far.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.market_data.core.live_steps import Span, StepBuilder
from shared.clock import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND
from shared.errors import UnavailableError
from shared.exchange.port import Recovered, VenueMarket
from shared.logs import Log
from shared.messages import Side, Trade
from shared.metrics import Metrics

# Compared so often, or when so many wait; a list of a time that has only just passed may not have it all.
EVERY_S, HELD_MAX, LOOK_S = 15.0, 300, 1.0
SETTLED_NS = 250 * NANOSECONDS_PER_MILLISECOND
AGAIN_S = 0.2
_NO_ANSWER = (UnavailableError, TimeoutError, OSError)
_Known = tuple[int, float, Side]


class Proof:
    """Hold the trades of one venue's markets; `timeout_s` bounds how long a step waits for an answer.

    `known_ns` returns the venue's time, None while it is not known: nothing is proven up to a time that never was.
    """

    def __init__(
        self,
        market: VenueMarket,
        instruments: Sequence[str],
        *,
        known_ns: Callable[[], int | None],
        timeout_s: float,
        on_lost: Callable[[Sequence[Trade]], None],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._market, self._known_ns, self._timeout_s, self._on_lost = market, known_ns, timeout_s, on_lost
        self._log = log
        self._builder: StepBuilder | None = None
        self._held: dict[str, list[Trade]] = {name: [] for name in instruments}
        self._until_ns = dict.fromkeys(instruments, 0)
        self._asked_ns, self._asked_held = dict.fromkeys(instruments, 0), dict.fromkeys(instruments, 0)
        self._refused: dict[str, set[_Known]] = {name: set() for name in instruments}
        self._doubts: dict[str, list[Span]] = {name: [] for name in instruments}
        self._mended: dict[str, set[int]] = {name: set() for name in instruments}
        self._locks = {name: asyncio.Lock() for name in instruments}
        self._recovered = metrics.counter("trades_recovered", "Trades that the stream lost and the venue's list had")

    def begin(self, builder: StepBuilder, from_ns: int) -> None:
        """Count from now on into `builder`, from `from_ns` on."""
        self._builder = builder
        self._until_ns = dict.fromkeys(self._until_ns, from_ns)

    def hold(self, trade: Trade) -> None:
        """Take a usable trade; one of a time that is compared already goes straight on, and throws doubt on it."""
        name = trade.instrument
        if self._builder is None or trade.ts_event_ns >= self._until_ns[name]:
            self._held[name].append(trade)
            if self._builder is not None:
                self._builder.on_time(name, trade.ts_event_ns)
            return
        self._doubt(name, trade.ts_event_ns, trade.ts_event_ns + 1, "a trade came after the venue's list without it")
        _count(self._builder, trade)

    def refuse(self, trade: Trade) -> None:
        """Leave a trade out although the venue lists it: a bad print."""
        self._refused[trade.instrument].add(_known(trade))

    async def run(self) -> None:
        """Compare every few seconds until cancelled."""
        every_ns = int(EVERY_S * NANOSECONDS_PER_SECOND)
        while True:
            await asyncio.sleep(LOOK_S)
            for name, held in self._held.items():
                now_ns = self._known_ns()
                if now_ns is None:
                    break
                end_ns = now_ns - SETTLED_NS
                since_ns = max(self._until_ns[name], self._asked_ns[name])
                if len(held) - self._asked_held[name] >= HELD_MAX or end_ns - since_ns >= every_ns:
                    # A venue that does not answer, or not to the point, is not asked more often for it.
                    self._asked_ns[name], self._asked_held[name] = end_ns, len(held)
                    await self._compare(name, end_ns, is_last=False)

    async def prove(self, close_ns: int) -> None:
        """Compare every market up to a step's end, and hand on what there is."""
        early_ns = close_ns + SETTLED_NS - (self._known_ns() or 0)
        if early_ns > 0:
            await asyncio.sleep(min(early_ns, SETTLED_NS) / NANOSECONDS_PER_SECOND)
        await asyncio.gather(*(self._compare(name, close_ns, is_last=True) for name in self._held))

    def doubts(self, open_ns: int, close_ns: int) -> dict[str, str]:
        """Return why a market's trades of [open, close) are not proven to be all; older doubts are forgotten."""
        found: dict[str, str] = {}
        for name, spans in self._doubts.items():
            for span in spans:
                assert span.until_ns is not None
                if span.from_ns < close_ns and span.until_ns > open_ns:
                    found.setdefault(name, span.reason)
            self._doubts[name] = [one for one in spans if one.until_ns is not None and one.until_ns > close_ns]
        return found

    def mended(self, open_ns: int, close_ns: int) -> tuple[str, ...]:
        """Return the markets of which the venue's list had trades of [open, close) that the stream lost."""
        found = tuple(name for name, times in self._mended.items() if any(open_ns <= at < close_ns for at in times))
        for name, times in self._mended.items():
            self._mended[name] = {at for at in times if at >= close_ns}
        return found

    async def _compare(self, name: str, end_ns: int, *, is_last: bool) -> None:
        async with self._locks[name]:
            start_ns = self._until_ns[name]
            if end_ns <= start_ns or self._builder is None:
                return
            answer = await self._ask(name, start_ns, end_ns, is_last=is_last)
            if answer.problem and not is_last:
                return
            self._until_ns[name] = end_ns
            whole_ns = end_ns if answer.problem else answer.whole_from_ns
            if whole_ns > start_ns:
                self._doubt(name, start_ns, whole_ns, answer.problem or "more was traded than the venue lists")
            self._settle(name, answer, whole_ns, end_ns)

    async def _ask(self, name: str, start_ns: int, end_ns: int, *, is_last: bool) -> Recovered:
        """Ask once, or for a step that is to close until there is an answer or no time left."""
        problem = "the venue did not answer"
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        answer = await self._market.recover(name, start_ns, end_ns)
                    except UnavailableError as error:
                        answer = Recovered(problem=str(error))
                    if not answer.problem or not is_last:
                        return answer
                    problem = answer.problem
                    await asyncio.sleep(AGAIN_S)
        except _NO_ANSWER:
            return Recovered(problem=problem)

    def _settle(self, name: str, answer: Recovered, whole_ns: int, end_ns: int) -> None:
        builder, held = self._builder, self._held[name]
        assert builder is not None
        if answer.lost:
            self._recovered.inc(len(answer.lost))
            self._mended[name].update(one.ts_event_ns for one in answer.lost)
            self._log.warning("trades_recovered", instrument=name, trades=len(answer.lost))
            self._on_lost(answer.lost)
        self._held[name] = [one for one in held if one.ts_event_ns >= end_ns]
        self._asked_held[name] = 0
        for trade in held:
            if trade.ts_event_ns < whole_ns:
                _count(builder, trade)
        refused = self._refused[name]
        for trade in answer.trades:
            if _known(trade) not in refused:
                _count(builder, trade)
        self._refused[name] = {one for one in refused if one[0] >= end_ns}
        if whole_ns < end_ns:
            builder.on_proven(name, whole_ns, end_ns)

    def _doubt(self, name: str, from_ns: int, until_ns: int, reason: str) -> None:
        self._doubts[name].append(Span(from_ns, until_ns, reason))


def _count(builder: StepBuilder, trade: Trade) -> None:
    builder.on_trade(trade.instrument, trade.trade_id, trade.ts_event_ns, trade.price, trade.quantity)


def _known(trade: Trade) -> _Known:
    return trade.ts_event_ns, trade.price, trade.side
