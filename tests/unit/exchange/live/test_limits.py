"""The limiter keeps its promise in every window, lets cancels go first, and loses nothing."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UnavailableError
from shared.exchange.live.limits import ORDERS, READS, URGENT, WAITING_MAX, PriorityBucket, VenueLimits

SECOND = 1_000_000_000
EVENTS = st.lists(
    st.tuples(st.sampled_from([URGENT, ORDERS, READS]), st.sampled_from([0.0, 0.0, 0.01, 0.2, 1.5])),
    min_size=20,
    max_size=80,
)


class VirtualTime:
    """Be a clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_ns = 0

    def read(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        self.now_ns += max(1, round(seconds * SECOND))
        await asyncio.sleep(0)


def bucket_of(time: VirtualTime, limit: float = 12.0, burst: float = 4.0) -> PriorityBucket:
    return PriorityBucket(limit, burst=burst, now_ns=time.read, sleep=time.sleep)


def limits_of(time: VirtualTime, wait_max_s: float = 10.0) -> VenueLimits:
    return VenueLimits(bucket_of(time, 20.0), bucket_of(time), wait_max_s=wait_max_s, now_ns=time.read)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@settings(deadline=None)
@given(events=EVENTS, burst=st.sampled_from([1.0, 4.0, 11.0]))
def test_no_window_holds_more_than_the_limit_and_nothing_is_lost(events: list[tuple[int, float]], burst: float) -> None:
    async def run() -> None:
        time = VirtualTime()
        bucket = bucket_of(time, burst=burst)
        granted: list[tuple[int, int, int]] = []

        async def want(number: int, priority: int) -> None:
            await bucket.take(1.0, priority)
            granted.append((time.now_ns, number, priority))

        tasks = []
        for number, (priority, pause_s) in enumerate(events):
            if pause_s:
                await time.sleep(pause_s)
            tasks.append(asyncio.create_task(want(number, priority)))
        await asyncio.gather(*tasks)

        assert sorted(number for _, number, _ in granted) == list(range(len(events)))
        times = [at for at, _, _ in granted]
        for first, at in enumerate(times):
            within = [one for one in times[first:] if one < at + SECOND]
            assert len(within) <= 12

    asyncio.run(run())


@settings(deadline=None)
@given(before=st.integers(0, 40), after=st.integers(0, 40), cancels=st.integers(1, 10))
def test_cancels_are_never_behind_orders(before: int, after: int, cancels: int) -> None:
    async def run() -> None:
        time = VirtualTime()
        bucket = bucket_of(time)
        granted: list[int] = []

        async def want(priority: int) -> None:
            await bucket.take(1.0, priority)
            granted.append(priority)

        kinds = [ORDERS] * before + [URGENT] * cancels + [ORDERS] * after
        await asyncio.gather(*(want(kind) for kind in kinds))
        at_once = min(4, before)
        # What had the tokens already is gone; from then on every cancel comes before every order.
        assert granted[at_once : at_once + cancels] == [URGENT] * cancels
        assert len(granted) == len(kinds)

    asyncio.run(run())


async def test_a_waiter_that_gives_up_passes_its_turn_on() -> None:
    time = VirtualTime()
    gate = asyncio.Event()

    async def stuck(seconds: float) -> None:
        await gate.wait()
        time.now_ns += max(1, round(seconds * SECOND))

    bucket = PriorityBucket(12.0, burst=4.0, now_ns=time.read, sleep=stuck)
    for _ in range(4):
        await bucket.take()
    first, second = asyncio.create_task(bucket.take()), asyncio.create_task(bucket.take())
    await settle()
    first.cancel()
    await settle()
    gate.set()
    await second
    assert first.cancelled()
    assert bucket.waiting == 0


async def test_a_full_queue_says_no_to_orders_and_not_to_cancels() -> None:
    bucket = PriorityBucket(2.0, burst=1.0, sleep=lambda _: asyncio.sleep(3600))
    await bucket.take()
    waiting = [asyncio.create_task(bucket.take(1.0, ORDERS)) for _ in range(WAITING_MAX)]
    await settle()
    with pytest.raises(UnavailableError, match="wait for a turn"):
        await bucket.take(1.0, ORDERS)
    cancel = asyncio.create_task(bucket.take(1.0, URGENT))
    await settle()
    assert bucket.waiting == WAITING_MAX + 1
    for task in (*waiting, cancel):
        task.cancel()
    await asyncio.gather(*waiting, cancel, return_exceptions=True)


async def test_nobody_gets_through_while_the_venue_wants_silence() -> None:
    time = VirtualTime()
    limits = limits_of(time)
    limits.pause(5.0)
    await limits.read()
    assert time.now_ns >= 5 * SECOND


async def test_a_long_ban_is_a_plain_no_and_ends() -> None:
    time = VirtualTime()
    limits = limits_of(time)
    limits.pause(120.0)
    limits.pause(1.0)
    for turn in (limits.read, limits.order, limits.cancel):
        with pytest.raises(UnavailableError, match="120 s more"):
            await turn()
    time.now_ns = 121 * SECOND
    await limits.cancel()


async def test_an_order_counts_against_both_limits() -> None:
    time = VirtualTime()
    limits = limits_of(time)
    await asyncio.gather(*(limits.order() for _ in range(24)))
    # 4 at once, then 8 a second.
    assert time.now_ns >= 2.4 * SECOND


async def test_an_order_after_many_questions_has_its_turn_at_once() -> None:
    time = VirtualTime()
    requests = PriorityBucket(20.0, burst=4.0, reserve=2.0, now_ns=time.read, sleep=time.sleep)
    limits = VenueLimits(requests, bucket_of(time), wait_max_s=10.0, now_ns=time.read)
    for _ in range(12):
        await limits.read()
    asked_ns = time.now_ns
    assert asked_ns > 0
    await limits.order()
    await limits.cancel()
    assert time.now_ns == asked_ns
    # A question larger than what the reserve leaves still has its turn.
    await limits.read(4.0)
    assert time.now_ns > asked_ns


@pytest.mark.parametrize("reserve", [-1.0, 4.0])
def test_a_reserve_that_leaves_nothing_is_refused(reserve: float) -> None:
    with pytest.raises(ValueError, match="reserve"):
        PriorityBucket(20.0, burst=4.0, reserve=reserve)


@pytest.mark.parametrize(("limit", "burst"), [(4.0, 4.0), (1.0, 2.0)])
def test_a_burst_as_large_as_the_limit_is_refused(limit: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above burst"):
        PriorityBucket(limit, burst=burst)
