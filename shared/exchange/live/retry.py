"""Asking again what is safe to ask again: reads, and nothing else.

In: a read that may fail for a while. Out: its answer, or the last failure. Never: a write repeated, everybody asking
again at the same moment, a wait without a cap.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from shared.errors import UnavailableError
from shared.exchange.pacing import Sleep

FIRST_S = 0.2
MOST_S = 10.0
# Beyond this power of two every wait is the cap; it keeps the exponent small for a failure that lasts for days.
DOUBLINGS_MAX = 30


def full_jitter_s(attempt: int, random: Random, *, first_s: float = FIRST_S, most_s: float = MOST_S) -> float:
    """Return how long to wait after failure number `attempt` (from 1): anything up to a ceiling that doubles."""
    ceiling: float = min(most_s, first_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX))
    return random.random() * ceiling


async def retry_read[T](
    read: Callable[[], Awaitable[T]], *, attempts_max: int, random: Random, sleep: Sleep = asyncio.sleep,
    first_s: float = FIRST_S, most_s: float = MOST_S,
) -> T:  # fmt: skip
    """Return what `read` returns; UnavailableError is tried again, at most `attempts_max` times in all, then raised."""
    for attempt in range(1, attempts_max):
        try:
            return await read()
        except UnavailableError:
            await sleep(full_jitter_s(attempt, random, first_s=first_s, most_s=most_s))
    return await read()
