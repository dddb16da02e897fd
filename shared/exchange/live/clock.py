"""How far a venue's clock is ahead of ours, measured again and again.

In: a question that returns the venue's time. Out: the offset, and the time to sign requests with.
Never: one slow answer taken for the truth: the median of several round trips counts, each at its middle.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable

from shared.clock import NANOSECONDS_PER_MILLISECOND, wall_ns
from shared.errors import UnavailableError
from shared.exchange.pacing import Sleep

SAMPLES = 5


class VenueClock:
    """Know a venue's time. `ask` returns it in milliseconds and may raise UnavailableError."""

    def __init__(
        self, ask: Callable[[], Awaitable[int]], *, now_ns: Callable[[], int] = wall_ns, samples: int = SAMPLES
    ) -> None:
        self._ask, self._now_ns, self._samples = ask, now_ns, samples
        self._measuring: asyncio.Future[None] | None = None
        self.offset_ns = 0
        self.is_measured = False

    def now_ms(self) -> int:
        """Return the venue's time, in milliseconds, as far as we know it."""
        return (self._now_ns() + self.offset_ns) // NANOSECONDS_PER_MILLISECOND

    async def measure(self) -> int:
        """Ask several times and return the offset in nanoseconds; callers at the same time share one measurement.

        Raises UnavailableError when not one answer came; the last known offset then stays.
        """
        if self._measuring is None:
            self._measuring = asyncio.ensure_future(self._measure())
            self._measuring.add_done_callback(self._forget)
        await asyncio.shield(self._measuring)
        return self.offset_ns

    async def measure_anew(self) -> int:
        """Measure from now on: what is under way may have begun before this computer's clock was set."""
        if self._measuring is not None:
            await asyncio.wait([self._measuring])
        return await self.measure()

    async def keep(self, interval_s: float, *, sleep: Sleep = asyncio.sleep) -> None:
        """Measure every `interval_s` until cancelled; an unanswered question is asked again after the next one."""
        while True:
            await sleep(interval_s)
            try:
                await self.measure()
            except UnavailableError:
                continue

    async def _measure(self) -> None:
        offsets: list[int] = []
        problem: UnavailableError | None = None
        for _ in range(self._samples):
            before_ns = self._now_ns()
            try:
                venue_ms = await self._ask()
            except UnavailableError as error:
                problem = error
                continue
            # The venue cuts its time off at whole milliseconds: on average half of one is missing.
            venue_ns = venue_ms * NANOSECONDS_PER_MILLISECOND + NANOSECONDS_PER_MILLISECOND // 2
            offsets.append(venue_ns - (before_ns + self._now_ns()) // 2)
        if not offsets:
            raise problem or UnavailableError("the venue did not tell its time")
        self.offset_ns, self.is_measured = int(statistics.median(offsets)), True

    def _forget(self, done: asyncio.Future[None]) -> None:
        self._measuring = None
        if not done.cancelled():
            # Whoever awaited it has the error; without this, an abandoned one would be reported as never retrieved.
            done.exception()
