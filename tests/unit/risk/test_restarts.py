"""Killed at each of its waits, with and without the effect, and started again: the same verdicts, each once."""

from pathlib import Path

import pytest

from shared.bus.streams import DECISIONS
from shared.messages import OrderApproved, OrderIntent, OrderRefused, Side
from tests.unit.risk.stage import Stage
from tests.unit.risk.worlds import D, intent

Verdicts = dict[str, list[OrderApproved | OrderRefused]]

# A sale, a buy that is too large, and two buys that spend everything, published without waiting for one another.
PLAN: tuple[OrderIntent, ...] = (
    intent("sale", Side.SELL),
    intent("large", quantity=D(30)),
    intent("buy-a", quantity=None, quote_amount=D(500), correlation_id="plan-2"),
    intent("buy-b", instrument="B-USDT", quantity=None, quote_amount=D(500), correlation_id="plan-2"),
)


async def play(path: Path, *, crash_at: int | None, after: bool, duplicate_window_s: float = 120.0) -> Stage:
    stage = await Stage(path).open(duplicate_window_s=duplicate_window_s)
    await stage.execute()
    await stage.feed()
    await stage.account()
    await stage.intend(*PLAN)
    await stage.start_risk(crash_at=crash_at, after=after)
    await stage.until(lambda: is_over(stage))
    if crash_at is not None and stage.bus.crashed.is_set():
        stage.kill_risk()
        await stage.start_risk()
        await stage.until(lambda: is_over(stage))
    return stage


def is_over(stage: Stage) -> bool:
    # The journal's entry is the last thing that a refusal publishes.
    return len(stage.verdicts()) == len(PLAN) and len(stage.filled) == 3 and bool(stage.stored(DECISIONS, "decision.>"))


async def test_every_kill_gives_the_same_verdicts_once(tmp_path: Path) -> None:
    quiet = await play(tmp_path / "quiet", crash_at=None, after=False)
    expected, calls = quiet.verdicts(), quiet.bus.calls
    await quiet.stop()
    assert [type(found[0]) for found in expected.values()] == [OrderApproved, OrderRefused, *[OrderApproved] * 2]
    assert calls > 10
    for number in range(1, calls + 1):
        for after in (False, True):
            stage = await play(tmp_path / f"{number}-{after}", crash_at=number, after=after)
            assert stage.verdicts() == expected, (number, after)
            assert stage.filled == {"sale", "buy-a", "buy-b"}
            assert stage.usdt == D(100)
            await stage.stop()


@pytest.mark.parametrize("after", [False, True])
async def test_beyond_the_streams_memory_a_verdict_is_repeated_word_for_word(tmp_path: Path, after: bool) -> None:
    quiet = await play(tmp_path / "quiet", crash_at=None, after=False, duplicate_window_s=0.0)
    expected, calls = quiet.verdicts(), quiet.bus.calls
    await quiet.stop()
    repeated = 0
    for number in range(1, calls + 1):
        stage = await play(tmp_path / str(number), crash_at=number, after=after, duplicate_window_s=0.0)
        for key, verdicts in stage.verdicts().items():
            assert all(verdict == expected[key][0] for verdict in verdicts)
            repeated += len(verdicts) - 1
        await stage.stop()
    assert repeated > 0
