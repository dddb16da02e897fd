"""The venue's own candles, soon after they have closed.

In: a clock, a question for closed candles. Out: each closed candle once, in order. Never: an open one, a hole skipped
while a later attempt may still fill it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import RejectedError, UnavailableError
from shared.exchange.mexc.words import INTERVALS
from shared.exchange.port import MarketSink
from shared.messages import Bar

# The venue needs a moment to close a candle, and more to admit one without a trade.
GRACE_S, EVERY_S = 1.0, 1.0
Ask = Callable[[str, str, int, int], Awaitable[tuple[Bar, ...]]]


class Candles:
    """Hand on closed candles from now on; `venue_ns` tells the venue's time."""

    def __init__(
        self, ask: Ask, timeframe: str, instruments: Sequence[str], sink: MarketSink, venue_ns: Callable[[], int]
    ) -> None:
        self._ask, self._timeframe, self._sink, self._venue_ns = ask, timeframe, sink, venue_ns
        self._interval_ns = INTERVALS[timeframe][1]
        first_ns = venue_ns() // self._interval_ns * self._interval_ns
        self._next_ns = dict.fromkeys(instruments, first_ns)
        self._sent = dict.fromkeys(instruments, 0)

    async def run(self) -> None:
        """Look for closed candles until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            for instrument in self._next_ns:
                await self.look(instrument)

    async def look(self, instrument: str) -> None:
        """Hand on what has closed since the last look; what could not be asked for waits for the next look."""
        next_ns, grace_ns = self._next_ns[instrument], int(GRACE_S * NANOSECONDS_PER_SECOND)
        ready_ns = self._venue_ns() - grace_ns
        if ready_ns < next_ns + self._interval_ns:
            return
        try:
            bars = await self._ask(instrument, self._timeframe, next_ns, ready_ns - self._interval_ns + 1)
        except (UnavailableError, RejectedError):
            return
        for bar in bars:
            if bar.open_time_ns >= self._next_ns[instrument]:
                self._next_ns[instrument] = bar.close_time_ns
                self._sent[instrument] += 1
                self._sink.on_venue_bar(msgspec.structs.replace(bar, sequence=self._sent[instrument] - 1))
