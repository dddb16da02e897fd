"""The venue's own candles: to repair what we missed, to check what we made.

In: the venue's closed candles, our published bars. Out: bars for the times asked; counts of bars that are the same and
of those that differ. Never: an exception for a venue that does not answer (its bar is missing then), an endless wait.
"""

import asyncio
from collections.abc import Sequence

from services.market_data.core.feed import Candle
from services.market_data.core.venue_candles import bars_of, differing, interval_for
from shared.domain.bars import ClosedBar
from shared.errors import ConfigError, InputError, UnavailableError
from shared.exchange.port import VenueMarket
from shared.logs import Log
from shared.messages import Bar
from shared.metrics import Metrics

KEPT = 20
REQUESTS_MAX = 4
TRIES, AGAIN_S = 3, 0.4
_NO_ANSWER = (UnavailableError, InputError, ConfigError, TimeoutError, OSError, ValueError)


class VenueBars:
    """Ask one venue for candles, and compare them; `timeout_s` bounds each question."""

    def __init__(
        self, market: VenueMarket, timeframe: str, timeframe_ns: int, *, timeout_s: float, metrics: Metrics, log: Log
    ) -> None:
        self._market, self._timeframe_ns, self._timeout_s, self._log = market, timeframe_ns, timeout_s, log
        self._interval = interval_for(market.venue, timeframe_ns)
        self.stream_timeframe = timeframe if self._interval == (timeframe, timeframe_ns) else None
        self._ours: dict[str, dict[int, Candle]] = {}
        self._theirs: dict[str, dict[int, Bar]] = {}
        self._slots = asyncio.Semaphore(REQUESTS_MAX)
        checked = metrics.counter("bars_checked", "Own bars next to the venue's candles, by result", ["result"])
        self._same, self._differ = checked.labels("same"), checked.labels("different")
        self.repaired = metrics.counter(
            "bars_repaired", "Bars of ours that were not whole, made so by the venue's data"
        )
        self.difference = ""

    @property
    def is_possible(self) -> bool:
        """Tell whether the venue has candles that our bars can be made of."""
        return self._interval is not None

    async def fetch(
        self, instruments: Sequence[str], open_ns: int, close_ns: int, *, is_newest: bool = False
    ) -> dict[str, dict[int, ClosedBar]]:
        """Return each instrument's bars that close in (open, close], by close time; what is not to be had is absent.

        With `is_newest` a candle that is not there yet is asked for again a few times.
        """
        if self._interval is None:
            return {}
        found = await asyncio.gather(
            *(self._fetch_one(name, open_ns, close_ns, TRIES if is_newest else 1) for name in instruments)
        )
        return dict(zip(instruments, found, strict=True))

    def keep(self, candle: Candle, close_ns: int) -> None:
        """Remember a bar of ours that was published, and compare it if the venue's is there."""
        _remember(self._ours.setdefault(candle.instrument, {}), close_ns, candle)
        self._compare(candle.instrument, close_ns)

    def on_venue_bar(self, bar: Bar) -> None:
        """Remember a candle of the venue, and compare it if ours is there."""
        if bar.volume > 0:
            _remember(self._theirs.setdefault(bar.instrument, {}), bar.close_time_ns, bar)
            self._compare(bar.instrument, bar.close_time_ns)

    def _compare(self, instrument: str, close_ns: int) -> None:
        ours = self._ours.get(instrument, {}).get(close_ns)
        theirs = self._theirs.get(instrument, {}).get(close_ns)
        if ours is None or theirs is None:
            return
        del self._ours[instrument][close_ns], self._theirs[instrument][close_ns]
        names = differing(ours, theirs)
        if not names:
            self._same.inc()
            return
        self._differ.inc()
        self.difference = f"{instrument} differs from the venue's candle in {', '.join(names)}"
        self._log.warning("bar_differs", instrument=instrument, close_time_ns=close_ns, names=names)

    async def _fetch_one(self, instrument: str, open_ns: int, close_ns: int, tries: int) -> dict[int, ClosedBar]:
        assert self._interval is not None
        name, length_ns = self._interval
        found: dict[int, ClosedBar] = {}
        for left in range(tries - 1, -1, -1):
            try:
                async with self._slots, asyncio.timeout(self._timeout_s):
                    candles = await self._market.bars(instrument, name, open_ns, close_ns)
                found = bars_of(candles, length_ns, self._timeframe_ns)
            except _NO_ANSWER as error:
                self._log.warning("candles_unavailable", instrument=instrument, error=repr(error))
            if found or not left:
                break
            await asyncio.sleep(AGAIN_S)
        return {at: bar for at, bar in found.items() if open_ns < at <= close_ns}


def _remember[T](kept: dict[int, T], close_ns: int, value: T) -> None:
    kept[close_ns] = value
    while len(kept) > KEPT:
        del kept[min(kept)]
