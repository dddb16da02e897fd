"""Ask a venue again and again until it answers."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from shared.errors import UnavailableError
from shared.logs import Log

RETRY_S, RETRY_MAX_S = 0.25, 30.0


async def until_answered[T](ask: Callable[[], Awaitable[T]], what: str, log: Log) -> T:
    """Return the answer, however long it takes; each failure is logged, the pauses grow to half a minute."""
    delay_s = RETRY_S
    while True:
        try:
            return await ask()
        except (UnavailableError, TimeoutError, OSError) as error:
            log.warning("venue_unavailable", what=what, error=repr(error), retry_s=round(delay_s, 1))
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
        delay_s = min(delay_s * 2, RETRY_MAX_S)
