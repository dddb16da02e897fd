"""How often a venue is asked, and how long to wait before asking again.

In: a rate, a clock and a way to sleep. Out: permission to send, in order. Never: a burst above the bucket, a wait
without a cap, everybody retrying at the same moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns

Sleep = Callable[[float], Awaitable[None]]


class TokenBucket:
    """Let `rate_per_s` requests through, at most `burst` at once; waiters are served in order."""

    def __init__(
        self, rate_per_s: float, burst: float = 1.0, *, now_ns: Callable[[], int] = monotonic_ns,
        sleep: Sleep = asyncio.sleep,
    ) -> None:  # fmt: skip
        if rate_per_s <= 0 or burst < 1:
            raise ValueError(f"rate_per_s must be above 0 and burst at least 1, got {rate_per_s} and {burst}")
        self._rate, self._burst = rate_per_s, burst
        self._now_ns, self._sleep = now_ns, sleep
        self._tokens, self._at_ns = burst, now_ns()
        self._turn = asyncio.Lock()

    async def take(self, tokens: float = 1.0) -> None:
        """Wait until `tokens` (at most `burst`) may be spent."""
        async with self._turn:
            while (missing := min(tokens, self._burst) - self._level()) > 0:
                await self._sleep(missing / self._rate)
            self._tokens -= min(tokens, self._burst)

    def pause(self, seconds: float) -> None:
        """Empty the bucket and let nobody through for `seconds`: the venue has asked for it."""
        self._level()
        self._tokens = min(self._tokens, 1.0 - seconds * self._rate)

    def _level(self) -> float:
        now_ns = self._now_ns()
        elapsed_s = (now_ns - self._at_ns) / NANOSECONDS_PER_SECOND
        self._tokens, self._at_ns = min(self._burst, self._tokens + elapsed_s * self._rate), now_ns
        return self._tokens


def backoff_s(attempt: int, random: Random, *, first_s: float = 0.5, most_s: float = 30.0) -> float:
    """Return how long to wait after failure number `attempt` (from 1): doubled each time, half of it by chance."""
    ceiling: float = min(most_s, first_s * 2.0 ** (attempt - 1))
    return ceiling / 2 + random.random() * ceiling / 2
