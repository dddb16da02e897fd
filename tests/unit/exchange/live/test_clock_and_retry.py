"""The venue's clock is measured, and only reads are asked again."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RejectedError, UnavailableError
from shared.exchange.live.clock import VenueClock
from shared.exchange.live.retry import full_jitter_s, retry_read

MS = 1_000_000


class Wall:
    """Be two clocks: ours, and the venue's, which is ahead; questions take time."""

    def __init__(self, ahead_ms: int, trips_ms: list[int]) -> None:
        self.now_ns, self.ahead_ms, self.trips = 1_000_000 * MS, ahead_ms, list(trips_ms)
        self.asked = 0

    def read(self) -> int:
        return self.now_ns

    async def ask(self) -> int:
        self.asked += 1
        trip_ms = self.trips.pop(0) if self.trips else 10
        if trip_ms < 0:
            raise UnavailableError("no answer")
        self.now_ns += trip_ms * MS // 2
        venue_ms = self.now_ns // MS + self.ahead_ms
        self.now_ns += trip_ms * MS // 2
        return venue_ms


@settings(deadline=None)
@given(ahead_ms=st.integers(-100_000, 100_000), trips=st.lists(st.integers(0, 400), min_size=5, max_size=5))
def test_the_offset_is_found_to_a_millisecond_over_any_symmetric_trips(ahead_ms: int, trips: list[int]) -> None:
    wall = Wall(ahead_ms, trips)
    clock = VenueClock(wall.ask, now_ns=wall.read)
    offset_ns = asyncio.run(clock.measure())
    assert abs(offset_ns - ahead_ms * MS) <= MS
    assert abs(clock.now_ms() - (wall.now_ns // MS + ahead_ms)) <= 1


async def test_what_is_measured_anew_began_after_the_question() -> None:
    wall, is_told = Wall(0, []), asyncio.Event()

    async def ask() -> int:
        await is_told.wait()
        return await wall.ask()

    clock = VenueClock(ask, now_ns=wall.read)
    running = asyncio.create_task(clock.measure())
    await asyncio.sleep(0)
    wall.now_ns += 3_600_000 * MS
    wall.ahead_ms -= 3_600_000
    anew = asyncio.create_task(clock.measure_anew())
    is_told.set()
    await running
    assert abs(await anew + 3_600_000 * MS) <= MS
    assert wall.asked == 10


async def test_one_slow_answer_changes_nothing() -> None:
    wall = Wall(1_270, [10, 10, 10, 10, 10])
    clock = VenueClock(wall.ask, now_ns=wall.read)

    async def lopsided() -> int:
        venue_ms = await wall.ask()
        if wall.asked == 3:
            wall.now_ns += 4_000 * MS
        return venue_ms

    clock = VenueClock(lopsided, now_ns=wall.read)
    assert abs(await clock.measure() - 1_270 * MS) <= MS


async def test_a_silent_venue_leaves_the_last_offset() -> None:
    wall = Wall(500, [10] * 5 + [-1] * 5)
    clock = VenueClock(wall.ask, now_ns=wall.read)
    before = await clock.measure()
    with pytest.raises(UnavailableError):
        await clock.measure()
    assert clock.offset_ns == before


async def test_measurements_at_the_same_time_are_one() -> None:
    wall = Wall(500, [])
    clock = VenueClock(wall.ask, now_ns=wall.read)
    await asyncio.gather(clock.measure(), clock.measure(), clock.measure())
    assert wall.asked == 5


async def test_keeping_time_survives_a_silent_venue() -> None:
    wall = Wall(500, [-1] * 5)
    clock = VenueClock(wall.ask, now_ns=wall.read)
    seen = asyncio.Event()

    async def sleep(_: float) -> None:
        if clock.is_measured:
            seen.set()
        await asyncio.sleep(0)

    task = asyncio.create_task(clock.keep(1.0, sleep=sleep))
    await asyncio.wait_for(seen.wait(), 5)
    task.cancel()
    assert abs(clock.offset_ns - 500 * MS) <= MS


async def test_a_read_is_asked_again_until_it_is_answered() -> None:
    waits: list[float] = []
    answers = iter([UnavailableError("1"), UnavailableError("2"), 7])

    async def read() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    assert await retry_read(read, attempts_max=3, random=Random(1), sleep=sleep) == 7
    assert len(waits) == 2


@pytest.mark.parametrize("error", [UnavailableError("down"), RejectedError("permission", "no")])
async def test_a_read_ends_with_the_last_failure_and_at_once_with_a_definite_no(error: Exception) -> None:
    asked = 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        raise error

    with pytest.raises(type(error)):
        await retry_read(read, attempts_max=4, random=Random(1), sleep=lambda _: asyncio.sleep(0))
    assert asked == (4 if isinstance(error, UnavailableError) else 1)


@settings(deadline=None)
@given(attempt=st.integers(1, 100_000), seed=st.integers())
def test_waits_have_a_cap_and_full_jitter(attempt: int, seed: int) -> None:
    assert 0 <= full_jitter_s(attempt, Random(seed), first_s=0.1, most_s=3.0) <= min(3.0, 0.1 * 2.0 ** min(attempt, 40))


def test_a_thousand_that_failed_together_do_not_come_back_together() -> None:
    waits = sorted(full_jitter_s(3, Random(seed), first_s=0.1, most_s=3.0) for seed in range(1_000))
    assert waits[100] < 0.08 and waits[900] > 0.32, "spread over all of 0 to 0.4 s"
