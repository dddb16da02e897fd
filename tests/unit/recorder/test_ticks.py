"""Ticks that came as one message are treated as if each had come alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.core import Buffer, Entry, Gaps, Limits, Room, unusable, usable_runs
from shared.bus import subjects
from shared.messages import Side, Trade, TradeBatch
from shared.store.port import Row
from shared.store.runs import Run
from shared.store.tables import TABLE_BY_NAME, day_of
from tests.unit.recorder.conftest import NOW_NS, Stage, until

TRADES = TABLE_BY_NAME["trades"]
DAY_NS = 86_400 * 1_000_000_000
MIDNIGHT_NS = NOW_NS // DAY_NS * DAY_NS
SUBJECT = subjects.trade("sandbox", "TAO-USDT")


def trade(sequence: int, ts_event_ns: int = NOW_NS) -> Trade:
    return Trade("sandbox", "TAO-USDT", f"t{sequence}", Side.BUY, 1.5, 2.0, ts_event_ns, NOW_NS, sequence)


def run(*trades: Trade) -> Run:
    return Run(trades, SUBJECT, 1)


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4) | st.just([3, 4, 5]), max_size=8))
def test_gaps_of_numbers_that_came_together_are_those_of_each_alone(batches: list[list[int]]) -> None:
    together, alone = Gaps(), Gaps()
    for numbers in batches:
        found = together.missing_in("s", numbers)
        assert found == sum(alone.missing_before("s", number) for number in numbers)
    assert together.missing_before("s", 20) == alone.missing_before("s", 20)


times = st.sampled_from(
    [0, -1, NOW_NS // 1_000, 10**30, MIDNIGHT_NS - 1, MIDNIGHT_NS, NOW_NS, 1_230_768_000_000_000_000 - 1,
     1_230_768_000_000_000_000, 4_102_444_800_000_000_000 - 1, 4_102_444_800_000_000_000]
)  # fmt: skip


@given(st.lists(times, min_size=1, max_size=8))
def test_usable_runs_are_the_usable_ticks_in_order_and_of_one_day_each(moments: list[int]) -> None:
    ticks = [trade(number, moment) for number, moment in enumerate(moments)]
    one_by_one = run(*ticks)
    runs = [one_by_one] if 10**30 in moments else [one_by_one, Run(TradeBatch.of(ticks), SUBJECT, 1)]
    for whole in runs:
        check_usable(whole, list(usable_runs(TRADES, whole)))


def check_usable(whole: Run, parts: list[Run]) -> None:
    ticks = list(whole.messages)
    assert all(type(part.messages) is type(whole.messages) for part in parts)
    assert [one for part in parts for one in part.messages] == [one for one in ticks if unusable(TRADES, one) is None]
    assert all(len({day_of(one.ts_event_ns) for one in part.messages}) == 1 for part in parts)


@given(
    st.lists(st.integers(1, 9) | st.sampled_from(["settle", "refuse"]), max_size=12), st.integers(0, 7) | st.just(61)
)
def test_the_bounds_take_the_same_ticks_together_as_alone(steps: list[int | str], size: int) -> None:
    limits = Limits(interval_ns=1, rows_max=5, pending_max=17, bytes_max=60)
    together: Buffer[str] = Buffer(limits)
    alone: Buffer[str] = Buffer(limits)
    kept: list[list[int]] = [[], []]
    for step in steps:
        if isinstance(step, int):
            ticks = [trade(number) for number in range(step)]
            taken = together.add_run(TRADES, run(*ticks), size, 0)
            rooms = [alone.add(TRADES, Entry(Row(one, SUBJECT, 1), size, None), 0) for one in ticks]
            assert rooms == [Room.TAKEN] * taken + [Room.FULL] * (step - taken)
        else:
            for at, buffer in enumerate((together, alone)):
                batches, oldest_ns = buffer.take()
                if step == "refuse":
                    buffer.put_back(batches, oldest_ns)
                    continue
                for batch in batches:
                    kept[at] += [row.message.sequence for row in batch.batch.rows]
                    buffer.settle(batch)
        assert (together.rows, together.bytes, together.waiting) == (alone.rows, alone.bytes, alone.waiting)
        assert (together.received, together.is_early) == (alone.received, alone.is_early)
    assert kept[0] == kept[1]


def test_ticks_that_the_disk_refused_come_before_later_ones() -> None:
    buffer: Buffer[str] = Buffer(Limits(interval_ns=1, rows_max=5, pending_max=50, bytes_max=1_000))
    buffer.add_run(TRADES, run(trade(1), trade(2)), 1, 10)
    refused, oldest_ns = buffer.take()
    buffer.add_run(TRADES, run(trade(3)), 1, 20)
    buffer.put_back(refused, oldest_ns)
    ((batch,), oldest_ns) = buffer.take()
    assert [row.message for row in batch.batch.rows] == [trade(1), trade(2), trade(3)]
    assert oldest_ns == 10


async def test_a_batch_alone_wakes_the_recorder(stage: Stage) -> None:
    await stage.start()
    for first in (1, 3):
        stage.publisher.publish_lossy(SUBJECT, TradeBatch.of((trade(first), trade(first + 1))))
        await until(lambda first=first: stage.report().rows_recorded == first + 1)


async def test_a_batch_over_midnight_with_a_wrong_time_and_gaps_is_kept_and_counted(stage: Stage) -> None:
    await stage.start()
    good = [trade(1, MIDNIGHT_NS - 1), trade(2, MIDNIGHT_NS), trade(6, MIDNIGHT_NS - 2)]
    stage.publisher.publish_lossy(SUBJECT, TradeBatch.of((good[0], good[1], trade(4, 1_780_000_000_000), good[2])))
    await until(lambda: stage.report().rows_recorded == 3)
    assert stage.report().lost_rows == {"no_room": 0, "before_arrival": 2, "unusable": 1, "dead_lettered": 0}
    await stage.drain()
    recorded = stage.recorded("trades")
    assert sorted(recorded, key=lambda one: one.sequence) == good
    assert sorted(path.name for path in (stage.root / "trades").iterdir()) == [
        f"date={day_of(MIDNIGHT_NS - 1)}", f"date={day_of(MIDNIGHT_NS)}",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["write", "sync"])
async def test_a_batch_fills_what_room_there_is_and_the_rest_is_counted(stage: Stage, what: str) -> None:
    await stage.start(rows_max=10, pending_max=20)
    stage.disk.fails = frozenset({what})
    for first in (1, 13):
        stage.publisher.publish_lossy(SUBJECT, TradeBatch.of([trade(first + at) for at in range(12)]))
    await until(lambda: stage.report().lost_rows["no_room"] == 4)
    assert stage.report().backlog_rows == 20
    stage.disk.fails = frozenset()
    await until(lambda: stage.report().backlog_rows == 0)
    await stage.drain()
    assert stage.recorded("trades") == [trade(number) for number in range(1, 21)]
