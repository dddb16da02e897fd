"""Staying within a venue's rate limits, cancels first.

In: requests that want a turn, and what the venue says about our pace. Out: turns, or a plain no when the wait would be
too long. Never: more in any window than the limit, a cancel behind an order, a request while the venue has banned us.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.errors import UnavailableError
from shared.exchange.pacing import Sleep, TokenBucket

WAITING_MAX = 1_000
# What an order waits for: cancels, then orders, then everything that only asks.
URGENT, ORDERS, READS = 0, 1, 2


class PriorityBucket(TokenBucket):
    """Be a token bucket that serves the most urgent first, in order among equals.

    In any window of `window_s` at most `limit` tokens are spent: `burst` at once, and the rest as they come in.
    Questions leave `reserve` tokens in it, so that an order after many of them finds its turn at once.
    """

    def __init__(
        self, limit: float, window_s: float = 1.0, *, burst: float | None = None, reserve: float = 0.0,
        now_ns: Callable[[], int] = monotonic_ns, sleep: Sleep = asyncio.sleep,
    ) -> None:  # fmt: skip
        burst = max(1.0, limit / 2) if burst is None else burst
        if limit <= burst:
            raise ValueError(f"limit must be above burst, got {limit} and {burst}")
        if not 0 <= reserve < burst:
            raise ValueError(f"reserve must lie between 0 and burst ({burst}), got {reserve}")
        self._reserve = reserve
        # What a full bucket holds and what flows into it meanwhile must fit into the window together.
        super().__init__((limit - burst) / window_s, burst, now_ns=now_ns, sleep=sleep)
        self._waiting: list[tuple[int, int, asyncio.Event]] = []
        self._numbers = count()

    @property
    def waiting(self) -> int:
        """Return how many wait for a turn."""
        return len(self._waiting)

    def wait_s(self, tokens: float = 1.0) -> float:
        """Return how long a request would wait now if nobody were before it."""
        return max(0.0, min(tokens, self._burst) - self._level()) / self._rate

    async def take(self, tokens: float = 1.0, priority: int = READS) -> None:
        """Wait until `tokens` (at most what `burst` leaves) may be spent and nobody more urgent waits.

        Raises UnavailableError, with nothing spent, when too many wait already and this is not urgent.
        """
        reserve = self._reserve if priority == READS else 0.0
        tokens = min(tokens, self._burst - reserve)
        if not self._waiting and self._level() >= tokens + reserve:
            self._tokens -= tokens
            return
        if len(self._waiting) >= WAITING_MAX and priority != URGENT:
            raise UnavailableError(f"{WAITING_MAX} requests wait for a turn already")
        mine = asyncio.Event()
        ticket = (priority, next(self._numbers), mine)
        heapq.heappush(self._waiting, ticket)
        try:
            while True:
                if self._waiting[0] is not ticket:
                    # Whoever leaves wakes the first; only the first watches the bucket.
                    await mine.wait()
                    mine.clear()
                elif (missing := tokens + reserve - self._level()) > 0:
                    await self._sleep(missing / self._rate)
                else:
                    self._tokens -= tokens
                    return
        finally:
            self._waiting.remove(ticket)
            heapq.heapify(self._waiting)
            if self._waiting:
                self._waiting[0][2].set()


class VenueLimits:
    """Hold a venue's limits: one for requests by weight, one for orders and cancels together.

    After a refusal for our pace nobody gets through until the venue's `Retry-After` has passed.
    """

    def __init__(
        self, requests: PriorityBucket, orders: PriorityBucket, *, wait_max_s: float,
        now_ns: Callable[[], int] = monotonic_ns,
    ) -> None:  # fmt: skip
        self.requests, self.orders = requests, orders
        self._wait_max_s, self._now_ns = wait_max_s, now_ns
        self._paused_until_ns = 0

    @property
    def paused_s(self) -> float:
        """Return how long the venue still wants to hear nothing from us; 0 when it listens."""
        return max(0, self._paused_until_ns - self._now_ns()) / NANOSECONDS_PER_SECOND

    async def read(self, weight: float = 1.0) -> None:
        """Wait for a question's turn. Raises UnavailableError when the wait would be too long; nothing was asked."""
        await self._turn(self.requests, weight, READS)

    async def order(self, weight: float = 1.0) -> None:
        """Wait for an order's turn. Raises UnavailableError when the wait would be too long; nothing was sent."""
        await self._turn(self.orders, 1.0, ORDERS)
        await self._turn(self.requests, weight, ORDERS)

    async def cancel(self, weight: float = 1.0) -> None:
        """Wait for a cancel's turn, before every order and question. Raises UnavailableError only for a long ban."""
        await self._turn(self.orders, 1.0, URGENT)
        await self._turn(self.requests, weight, URGENT)

    def pause(self, seconds: float) -> None:
        """Let nobody through for `seconds`: the venue has asked for it. A shorter pause changes no longer one."""
        until_ns = self._now_ns() + int(seconds * NANOSECONDS_PER_SECOND)
        if until_ns > self._paused_until_ns:
            self._paused_until_ns = until_ns
            self.requests.pause(seconds)
            self.orders.pause(seconds)

    async def _turn(self, bucket: PriorityBucket, weight: float, priority: int) -> None:
        if (wait_s := self.paused_s) > self._wait_max_s:
            raise UnavailableError(f"the venue wants to hear nothing from us for {wait_s:.0f} s more")
        try:
            async with asyncio.timeout(self._wait_max_s if priority != URGENT else self._wait_max_s * 2):
                await bucket.take(weight, priority)
        except TimeoutError:
            raise UnavailableError(f"no turn within the venue's limits came in {self._wait_max_s:g} s") from None
        if (wait_s := self.paused_s) > 0:
            # The venue spoke while we waited in the other queue.
            await self._turn(bucket, weight, priority)
