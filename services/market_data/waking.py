"""Notice that this computer slept, or that its clock was set, and learn the venue's time before anything goes by it.

In: looks, far more often than a pause is long. Out: the venue's time; after a pause connections that are made anew and
the time in which trades may be missing. Never: a time that a pause has made wrong, taken for the venue's.
"""

import asyncio
from collections.abc import Callable

from services.market_data.patience import until_answered
from services.market_data.ticks import Ticks
from shared.exchange.port import VenueMarket
from shared.logs import Log
from shared.messages import FeedState
from shared.pauses import PauseWatch, told

STOP_LOOK_S = 0.25


class Waking:
    """Watch over one venue's market; `now_ns` is the venue's time as far as it is known."""

    def __init__(self, market: VenueMarket, pauses: PauseWatch, now_ns: Callable[[], int], log: Log) -> None:
        self._market, self._pauses, self._now_ns, self._log = market, pauses, now_ns, log
        self._awake_ns, self._slept_from_ns = now_ns(), 0
        self._count, self._reason = 0, ""

    @property
    def is_awake(self) -> bool:
        """Tell whether the venue's time is known."""
        return not self._reason

    def begin(self) -> None:
        """Begin to watch: however long the venue did not answer before, that was no pause."""
        self._pauses.look()
        self._awake_ns = self._now_ns()

    def look(self, ticks: Ticks) -> int:
        """Return the venue's time, unless `is_awake` is False then.

        After a pause every market is distrusted from its last trade on: a dead connection says nothing.
        """
        # Read before the look: whatever happens after it, this was the time while all was well.
        now_ns = self._now_ns()
        if pause_s := self._pauses.look():
            # One pause right after another begins where the first one did.
            self._slept_from_ns = self._awake_ns if self.is_awake else self._slept_from_ns
            self._count, self._reason = self._count + 1, told(pause_s)
            self._log.warning("paused", reason=self._reason)
            ticks.on_status(None, FeedState.STALE, self._reason)
            self._market.reconnect(self._reason)
        elif self.is_awake:
            self._awake_ns = now_ns
        return now_ns

    def known_ns(self, ticks: Ticks) -> int | None:
        """Return the venue's time, or None while it is not known."""
        now_ns = self.look(ticks)
        return now_ns if self.is_awake else None

    async def wake(self, ticks: Ticks, is_stopping: Callable[[], bool]) -> int:
        """Measure the venue's clock anew, however long that takes, and return its time; or stop, still not awake."""
        while not self.is_awake and not is_stopping():
            count = self._count
            if not await self._is_measured(is_stopping):
                break
            now_ns = self.look(ticks)
            if self._count == count:
                # Until now ticks were judged, and gaps were dated, by a clock that may have been wrong.
                ticks.on_hole(self._slept_from_ns, now_ns, self._reason)
                self._awake_ns, self._reason = now_ns, ""
        return self._awake_ns

    async def _is_measured(self, is_stopping: Callable[[], bool]) -> bool:
        asking = asyncio.ensure_future(until_answered(self._market.measure_clock, "clock", self._log))
        try:
            while not asking.done():
                if is_stopping():
                    return False
                await asyncio.wait([asking], timeout=STOP_LOOK_S)
            asking.result()
        finally:
            asking.cancel()
        return True
