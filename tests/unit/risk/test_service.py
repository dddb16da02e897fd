"""The gate on a bus: one verdict for each intent, on data that is there, in the order of the stream."""

import asyncio
from pathlib import Path

import pytest

from services.risk.config import RiskConfig
from services.risk.core.market import VOID
from shared.bus import subjects
from shared.bus.streams import DECISIONS, ORDERS
from shared.messages import (
    RELEASED,
    Bbo,
    DecisionRecord,
    FeedState,
    MarketStatus,
    OrderApproved,
    OrderRefused,
    OrderState,
    RefusalCode,
    Side,
)
from tests.unit.risk.stage import Stage
from tests.unit.risk.worlds import NOW_NS, STEP_NS, VENUE, D, closed, intent, snapshot


async def staged(path: Path, **changes: object) -> Stage:
    stage = await Stage(path, **changes).open()  # type: ignore[arg-type] - as Stage takes them
    await stage.start_risk()
    return stage


async def settle() -> None:
    """Let everything that can happen happen."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_an_intent_is_approved_once_and_progress_is_reported(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    await stage.intend(intent())
    await stage.until_judged(1)
    [[approved]] = stage.verdicts().values()
    assert isinstance(approved, OrderApproved)
    assert (approved.quantity_max, approved.price_bound, approved.approved_at_ns) == (D(1), D(101), NOW_NS)
    assert stage.around.progress == [NOW_NS]
    assert stage.around.clock.now_ns() == NOW_NS
    await stage.stop()


async def test_a_refusal_goes_to_its_strategy_with_a_record_of_the_numbers(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    await stage.intend(intent(quantity=D(10)))
    await stage.until_judged(1)
    [refused] = stage.stored(ORDERS, subjects.order_refused("cascade"))
    assert isinstance(refused, OrderRefused)
    assert (refused.code, refused.refused_at_ns) == (RefusalCode.BALANCE, NOW_NS)
    await stage.until(lambda: bool(stage.stored(DECISIONS, "decision.risk.cascade")))
    [record] = stage.stored(DECISIONS, "decision.risk.cascade")
    assert isinstance(record, DecisionRecord)
    assert "needed = 1010" in record.notes
    assert (record.action, record.decided_at_ns, record.correlation_id) == ("refuse", NOW_NS, "plan-1")
    await stage.stop()


async def test_an_intent_waits_for_the_step_that_it_was_decided_on(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.account()
    # The step is in the stream, as the strategy saw it, but risk has not come to it.
    await stage.service._subscriptions[6].stop()
    await stage.feed()
    await stage.intend(intent())
    await settle()
    assert not stage.verdicts()
    assert stage.service.report().waiting_for
    stage.kill_risk()
    await stage.start_risk()
    await stage.until_judged(1)
    assert isinstance(stage.verdicts()["intent-1"][0], OrderApproved)
    await stage.stop()


async def test_an_intent_from_a_time_that_no_feed_has_reached_blocks_nothing(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    early = intent("early", decided_at_ns=NOW_NS + 1, expires_at_ns=2**62)
    await stage.intend(early, intent("next"))
    await stage.until_judged(2)
    [refused] = stage.verdicts()["early"]
    assert isinstance(refused, OrderRefused)
    assert refused.code is RefusalCode.INTENT_MALFORMED
    assert isinstance(stage.verdicts()["next"][0], OrderApproved)
    await stage.stop()


async def test_no_verdict_comes_before_the_first_account_snapshot(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.intend(intent())
    await settle()
    assert not stage.verdicts()
    await stage.account()
    await stage.until_judged(1)
    assert isinstance(stage.verdicts()["intent-1"][0], OrderApproved)
    await stage.stop()


async def test_what_no_account_could_change_is_refused_without_one(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.intend(intent(price_bound=D(120)))
    await stage.until_judged(1)
    assert stage.verdicts()["intent-1"][0].code is RefusalCode.PRICE_COLLAR  # type: ignore[union-attr]
    await stage.stop()


async def test_buys_wait_for_the_snapshot_with_the_sale_that_pays_them(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    stage.usdt = D(0)
    await stage.feed()
    await stage.account()
    sale = intent("sale", Side.SELL)
    await stage.intend(sale)
    await stage.until_judged(1)
    # Execution tells of the fill first; the snapshot with its proceeds comes later.
    stage.sequence, stage.usdt, stage.held["A"] = 2, D(100), D(1)
    await stage.tell(sale, OrderState.FILLED, "1", "100")
    await stage.intend(intent("buy", instrument="B-USDT", quantity=None, quote_amount=D(100)))
    await settle()
    assert set(stage.verdicts()) == {"sale"}
    await stage.account()
    await stage.until_judged(2)
    assert isinstance(stage.verdicts()["buy"][0], OrderApproved)
    await stage.stop()


async def test_a_deposit_that_the_strategy_has_seen_counts_though_risk_has_not_come_to_it(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    stage.usdt = D(50)
    await stage.feed()
    await stage.account()
    await stage.until(lambda: stage.service.report().ledger_sequence == 1)
    await stage.service._subscriptions[7].stop()
    stage.sequence, stage.usdt = 2, D(500)
    await stage.account()
    await stage.intend(intent())
    await stage.until_judged(1)
    assert isinstance(stage.verdicts()["intent-1"][0], OrderApproved)
    await stage.stop()


async def test_reservations_hold_until_the_order_has_ended(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    first, second = (intent(name, quantity=None, quote_amount=D(600), correlation_id=name) for name in ("one", "two"))
    await stage.intend(first, second)
    await stage.until_judged(2)
    assert isinstance(stage.verdicts()["one"][0], OrderApproved)
    assert stage.verdicts()["two"][0].code is RefusalCode.BALANCE  # type: ignore[union-attr]
    await stage.tell(first, OrderState.REJECTED)
    await stage.intend(intent("three", quantity=None, quote_amount=D(600)))
    await stage.until_judged(3)
    assert isinstance(stage.verdicts()["three"][0], OrderApproved)
    await stage.stop()


async def test_an_intent_on_another_strategys_subject_is_refused_and_takes_nobodys_verdict(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    await stage.send(subjects.order_intent("thief", VENUE, "A-USDT"), intent(), "stolen")
    await stage.intend(intent())
    await stage.until(lambda: len(stage.stored(ORDERS, "ord.approved.>")) == 1)
    [refused] = stage.stored(ORDERS, "ord.refused.thief")
    assert isinstance(refused, OrderRefused)
    assert refused.code is RefusalCode.INTENT_MALFORMED
    await stage.stop()


async def test_frames_that_are_nothing_for_risk_change_nothing(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    stage.broker.send(subjects.order_intent("cascade", VENUE, "A-USDT"), b"\xc1", "poison")
    await stage.send(subjects.order_intent("cascade", VENUE, "A-USDT"), closed(), "not an intent")
    await stage.send(subjects.account(VENUE), closed(), "not a snapshot")
    await stage.send(subjects.account(VENUE), snapshot(7, usdt="NaN"), "no amount")
    stage.broker.send(subjects.account(VENUE), b"\xc1", "the newest is poison")
    stage.broker.send(subjects.bars_closed("15m", VENUE), b"\xc1", "here too")
    large, early = intent("large", quantity=D(30)), intent("early", decided_at_ns=NOW_NS + 1)
    await stage.intend(intent(), large, early)
    await stage.until_judged(3)
    codes = [verdict.code if isinstance(verdict, OrderRefused) else None for [verdict] in stage.verdicts().values()]
    assert codes == [None, RefusalCode.BALANCE, RefusalCode.INTENT_MALFORMED]
    await stage.stop()


async def test_a_frozen_market_is_refused(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    status = MarketStatus(VENUE, "A-USDT", FeedState.FROZEN, "delisted", NOW_NS)
    await stage.until(lambda: bool(stage.around.progress))
    assert stage.outside.publish_lossy(subjects.status(VENUE), status)
    await settle()
    stage.kill_risk()
    await stage.start_risk()
    await stage.intend(intent())
    await stage.until_judged(1)
    refused = stage.verdicts()["intent-1"][0]
    assert isinstance(refused, OrderRefused)
    assert (refused.code, refused.detail) == (RefusalCode.INSTRUMENT_FROZEN, "A-USDT is frozen: delisted")
    assert stage.service.report().frozen == {"A-USDT": "delisted"}
    await stage.stop()


async def test_a_released_market_is_not_priced_by_what_it_was_before(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    await stage.until(lambda: bool(stage.around.progress))
    for state, why in ((FeedState.FROZEN, "opened 1000 times above"), (FeedState.LIVE, RELEASED)):
        assert stage.outside.publish_lossy(subjects.status(VENUE), MarketStatus(VENUE, "A-USDT", state, why, NOW_NS))
    await settle()
    stage.kill_risk()
    await stage.start_risk()
    await stage.intend(intent())
    await stage.until_judged(1)
    refused = stage.verdicts()["intent-1"][0]
    assert isinstance(refused, OrderRefused)
    assert refused.code is RefusalCode.PRICE_MISSING
    assert refused.detail == f"A-USDT has no price: {VOID}"
    await stage.feed(NOW_NS + STEP_NS, close=101.0)
    await stage.until(lambda: stage.around.progress[-1:] == [NOW_NS + STEP_NS])
    later = {"decided_at_ns": NOW_NS + STEP_NS, "expires_at_ns": NOW_NS + 2 * STEP_NS}
    await stage.intend(intent("intent-2", **later))
    await stage.until_judged(2)
    assert isinstance(stage.verdicts()["intent-2"][0], OrderApproved)
    await stage.stop()


async def test_a_lost_database_is_rebuilt_from_the_streams(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    spent = intent("one", quantity=None, quote_amount=D(600))
    await stage.intend(spent, intent("refused", quantity=D(10)))
    await stage.until_judged(2)
    before = stage.verdicts()
    await stage.until(lambda: stage.store.verdict("refused") is not None)
    stage.kill_risk()
    stage.path = tmp_path / "new"
    await stage.start_risk()
    assert stage.service.report().open_orders == 1
    assert stage.around.progress[-1:] == [NOW_NS]
    await stage.intend(intent("two", quantity=None, quote_amount=D(600)))
    await stage.until_judged(3)
    assert stage.verdicts()["two"][0].code is RefusalCode.BALANCE  # type: ignore[union-attr]
    assert {key: stage.verdicts()[key] for key in before} == before
    await stage.stop()


async def test_the_gate_goes_on_where_it_was_after_a_kill(tmp_path: Path) -> None:
    stage = await staged(tmp_path, config=RiskConfig(orders_per_second_max=2, position_limit=D("0.9")))
    await stage.feed()
    await stage.account()
    await stage.execute()
    for number in range(2):
        await stage.intend(intent(f"intent-{number}", correlation_id=f"plan-{number}"))
        await stage.until(lambda number=number: f"intent-{number}" in stage.filled)
    await settle()
    stage.kill_risk()
    await stage.start_risk()
    assert stage.around.clock.now_ns() == NOW_NS
    assert stage.around.progress == [NOW_NS]
    await stage.intend(intent("third", correlation_id="plan-2"))
    await stage.until_judged(3)
    assert stage.verdicts()["third"][0].code is RefusalCode.RATE  # type: ignore[union-attr]
    await stage.feed(NOW_NS + STEP_NS)
    await stage.until(lambda: stage.around.clock.now_ns() > NOW_NS)
    later = {"decided_at_ns": NOW_NS + STEP_NS, "expires_at_ns": NOW_NS + 2 * STEP_NS}
    await stage.intend(intent("fourth", **later))
    await stage.until_judged(4)
    assert isinstance(stage.verdicts()["fourth"][0], OrderApproved)
    await stage.stop()


async def test_a_second_gate_on_one_database_is_refused(tmp_path: Path) -> None:
    from services.risk.store import RiskStore
    from shared.errors import UnavailableError

    stage = await staged(tmp_path)
    with pytest.raises(UnavailableError, match="another risk service"):
        RiskStore(tmp_path / "risk.db", lock_timeout_s=0.01)
    await stage.stop()


async def test_metrics_name_verdicts_state_and_ages(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    await stage.intend(intent(), intent("large", quantity=D(10)))
    await stage.until_judged(2)
    read = stage.around.metrics.registry.get_sample_value
    assert read("cascade_risk_verdicts_total", {"code": "approved"}) == 1
    assert read("cascade_risk_verdicts_total", {"code": "balance"}) == 1
    assert read("cascade_risk_trading_state", {"state": "active"}) == 1
    assert (read("cascade_risk_data_age_seconds") or -1) >= 0
    assert (read("cascade_risk_account_age_seconds") or -1) >= 0
    await stage.stop()


async def test_outside_a_replay_a_newer_book_counts_too(tmp_path: Path) -> None:
    stage = await staged(tmp_path, is_market_time=False)
    await stage.feed()
    await stage.account()
    await stage.until(lambda: bool(stage.around.progress))
    quote = Bbo(VENUE, "A-USDT", 89.0, 1.0, 91.0, 1.0, NOW_NS + 1, NOW_NS + 1, 1)
    assert stage.outside.publish_lossy(subjects.bbo(VENUE, "A-USDT"), quote)
    await settle()
    await stage.intend(intent())
    await stage.until_judged(1)
    assert stage.verdicts()["intent-1"][0].code is RefusalCode.PRICE_COLLAR  # type: ignore[union-attr]
    await stage.stop()


async def test_in_a_replay_quotes_are_not_looked_at(tmp_path: Path) -> None:
    stage = await staged(tmp_path)
    await stage.feed()
    await stage.account()
    quote = Bbo(VENUE, "A-USDT", 89.0, 1.0, 91.0, 1.0, NOW_NS + 1, NOW_NS + 1, 1)
    stage.outside.publish_lossy(subjects.bbo(VENUE, "A-USDT"), quote)
    await settle()
    await stage.intend(intent())
    await stage.until_judged(1)
    assert isinstance(stage.verdicts()["intent-1"][0], OrderApproved)
    await stage.stop()


async def test_outside_a_replay_a_clock_may_differ_a_little_and_not_more(tmp_path: Path) -> None:
    stage = await staged(tmp_path, is_market_time=False)
    await stage.feed()
    await stage.account()
    await stage.until(lambda: bool(stage.around.progress))
    second = 10**9
    far = intent("far", decided_at_ns=NOW_NS + 6 * second)
    near = intent("near", decided_at_ns=NOW_NS + 2 * second)
    await stage.intend(far, near)
    await stage.until_judged(1)
    await settle()
    assert stage.verdicts().keys() == {"far"}
    assert stage.verdicts()["far"][0].code is RefusalCode.INTENT_MALFORMED  # type: ignore[union-attr]
    stage.around.advance_clock(NOW_NS + 2 * second)
    await stage.account(NOW_NS + 1)
    await stage.until_judged(2)
    assert isinstance(stage.verdicts()["near"][0], OrderApproved)
    await stage.stop()
