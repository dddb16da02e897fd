from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.execution.core.orders import client_order_id
from shared.bus import subjects
from shared.messages import OrderState, Side, TradingState
from shared.testing.paper import HOUR_NS, bar
from tests.unit.execution.rig import INITIAL, QUICK, Rig
from tests.unit.execution.samples import approve, intent

STATES = OrderState


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path)
    await rig.open()
    await rig.start()
    yield rig
    await rig.assert_agreement()
    await rig.stop()


async def test_a_new_account_starts_with_the_deposit_booked_once(rig: Rig) -> None:
    await rig.restart()
    snapshot = (await rig.snapshots())[-1]
    assert (snapshot.ledger_sequence, snapshot.equity_usdt) == (1, INITIAL)
    assert [balance.total for balance in snapshot.balances] == [INITIAL]


async def test_an_approved_market_buy_is_filled_booked_and_told(rig: Rig) -> None:
    await rig.step(1, BTC=100.0, ETH=50.0)
    await rig.approve(approve(intent(quote="1000")))
    assert await rig.settled(1) == [STATES.FILLED]
    events = await rig.events(1)
    assert [event.state for event in events] == [STATES.SUBMITTED, STATES.FILLED]
    fill = events[-1].fill
    assert fill is not None
    assert fill.price == Decimal("100.03")
    assert events[-1].filled_quote <= 1000
    snapshot = (await rig.snapshots())[-1]
    assert snapshot.ledger_sequence == events[-1].ledger_sequence == 2
    assert snapshot.as_of_ns == HOUR_NS
    assert snapshot.positions[0].quantity == fill.quantity - fill.fee
    assert snapshot.fees_paid_usdt == fill.fee * fill.price
    assert snapshot.equity_usdt is not None
    assert snapshot.equity_usdt < INITIAL
    assert rig.venue.sent[0].client_order_id == client_order_id("intent-1")


async def test_an_approval_waits_until_the_venue_has_seen_its_market_time(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(quote="1000", hour=2)))
    await rig.bars(2, BTC=200.0, ETH=50.0)
    await rig.until(lambda: rig.desk.books.is_within_step)
    assert rig.venue.sent == []
    await rig.step(2, BTC=200.0, ETH=50.0)
    await rig.settled(1)
    fill = (await rig.events(1))[-1].fill
    assert fill is not None
    assert fill.price > 200
    assert all(snapshot.as_of_ns in (0, HOUR_NS, 2 * HOUR_NS) for snapshot in await rig.snapshots())


async def test_no_order_is_sent_between_the_bars_of_one_step(rig: Rig) -> None:
    await rig.step(1, BTC=100.0, ETH=50.0)
    await rig.bars(2, BTC=200.0)
    await rig.until(lambda: rig.desk.books.is_within_step)
    await rig.approve(approve(intent(quote="1000", hour=2)))
    await rig.until(lambda: bool(rig.service._submission._waiting_since_ns) or bool(rig.venue.sent))
    assert rig.venue.sent == []
    await rig.step(2, BTC=200.0, ETH=60.0)
    assert await rig.settled(1) == [STATES.FILLED]
    assert (await rig.snapshots())[-1].as_of_ns == 2 * HOUR_NS


async def test_an_approval_whose_market_never_comes_is_denied(tmp_path: Path) -> None:
    rig = Rig(tmp_path, msgspec.structs.replace(QUICK, market_lag_timeout_s=0.1))
    await rig.open()
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(quote="1000", hour=2)))
    assert await rig.settled(1) == [STATES.DENIED]
    assert "market_lag" in (await rig.events(1))[-1].reason
    assert rig.venue.sent == []
    await rig.stop()


async def test_nothing_is_sent_before_risk_said_anything(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.open(state=None)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(quote="1000")))
    await rig.until(lambda: bool(rig.service._submission._waiting_since_ns))
    assert rig.venue.sent == []
    await rig.set_state(TradingState.ACTIVE)
    assert await rig.settled(1) == [STATES.FILLED]
    await rig.stop()


async def test_a_halted_execution_denies_and_cancels_what_rests(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, limit="90")))
    assert await rig.settled(1, states=(STATES.ACCEPTED,)) == [STATES.ACCEPTED]
    await rig.set_state(TradingState.HALTED)
    assert await rig.settled(1) == [STATES.CANCELED]
    await rig.approve(approve(intent(2, quote="1000")))
    assert await rig.settled(2) == [STATES.DENIED]
    assert "trading_halted" in (await rig.events(2))[-1].reason
    assert len(rig.venue.sent) == 1
    await rig.restart()
    await rig.approve(approve(intent(3, quote="1000")))
    assert await rig.settled(3) == [STATES.DENIED]
    await rig.set_state(TradingState.ACTIVE)
    await rig.approve(approve(intent(4, quote="1000")))
    assert await rig.settled(4) == [STATES.FILLED]


async def test_an_approval_that_overtakes_the_resumption_is_not_denied(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    rig.desk.state = TradingState.HALTED
    rig.desk._risk_sequence = 0
    await rig.approve(approve(intent(1, quote="1000")))
    assert await rig.settled(1) == [STATES.FILLED]


async def test_a_halt_that_was_lifted_while_we_were_dead_cancels_nothing(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, limit="90")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    await rig.crash()
    await rig.set_state(TradingState.HALTED)
    await rig.set_state(TradingState.ACTIVE)
    await rig.start()
    await rig.approve(approve(intent(2, quote="1000")))
    assert await rig.settled(2) == [STATES.FILLED]
    risk = rig.broker.stream("RISK")
    durable = risk.durables["execution-risk"]
    await rig.until(lambda: durable.cursor == risk.next_sequence and not durable.unacknowledged)
    assert await rig.settled(1, states=(STATES.ACCEPTED,)) == [STATES.ACCEPTED]


async def test_a_reducing_execution_sells_and_buys_nothing(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.settled(1)
    await rig.set_state(TradingState.REDUCING)
    await rig.until(lambda: rig.desk.state is TradingState.REDUCING)
    await rig.approve(approve(intent(2, quote="1000")))
    await rig.approve(approve(intent(3, side=Side.SELL, quantity="1")))
    assert await rig.settled(2, 3) == [STATES.DENIED, STATES.FILLED]


async def test_a_repeated_approval_is_answered_and_never_sent_again(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    approval = approve(intent(1, quote="1000"))
    for copy in range(4):
        await rig.approve(approval, copy=copy)
    await rig.approve(approve(intent(2, quote="100")))
    await rig.settled(1, 2)
    assert len(rig.venue.sent) == 2
    assert len(await rig.events(1)) == 2


async def test_an_approval_serves_one_intent_only(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.settled(1)
    await rig.approve(approve(intent(2, quote="1000"), approval_id="approval-intent-1"))
    assert await rig.settled(2) == [STATES.DENIED]
    assert "approval_used" in (await rig.events(2))[-1].reason
    assert len(rig.venue.sent) == 1


async def test_an_approval_on_another_instruments_subject_is_denied(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    subject = subjects.order_approved("paper", "ETH-USDT")
    await rig.outside.publish(subject, approve(intent(1, quote="1000")), message_id="x")
    assert await rig.settled(1) == [STATES.DENIED]


async def test_an_expired_approval_is_denied_in_market_time(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.step(2, BTC=101.0)
    await rig.approve(approve(intent(1, quote="1000", hour=1, expires_hour=1)))
    assert await rig.settled(1) == [STATES.DENIED]


async def test_what_the_venue_refuses_is_rejected_for_good(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="20000")))
    assert await rig.settled(1) == [STATES.REJECTED]
    assert (await rig.events(1))[-1].reason.startswith("balance")
    await rig.restart()
    assert await rig.settled(1) == [STATES.REJECTED]


async def test_a_market_order_beyond_its_price_bound_buys_nothing(rig: Rig) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="1000"), price_bound=Decimal(100)))
    assert await rig.settled(1) == [STATES.CANCELED]
    assert (await rig.events(1))[-1].filled_quantity == 0


async def test_a_resting_order_locks_money_fills_once_and_is_told_before_the_step_ends(rig: Rig) -> None:
    await rig.step(1, BTC=100.0, ETH=50.0)
    await rig.approve(approve(intent(1, limit="90", quantity="2")))
    await rig.settled(1, states=(STATES.ACCEPTED,))
    locked = (await rig.snapshots())[-1]
    assert (locked.open_orders, locked.balances[0].locked, locked.ledger_sequence) == (1, Decimal(180), 1)
    rig.venue.failing_queries = 1_000_000
    await rig.step(2, BTC=bar(2, 95.0, low=85.0, opening=96.0, high=97.0), ETH=51.0)
    assert (await rig.events(1))[-1].state is STATES.FILLED
    last = (await rig.snapshots())[-1]
    assert (last.as_of_ns, last.open_orders) == (2 * HOUR_NS, 0)
    assert last.positions[0].mark_price == Decimal(95)
    assert len(await rig.venue.real.trades_since(0)) == 1


async def test_each_step_gives_one_account_marked_at_its_time(rig: Rig) -> None:
    for hour, price in enumerate((100.0, 110.0, 99.0), start=1):
        await rig.step(hour, BTC=price)
        if hour == 1:
            await rig.approve(approve(intent(1, quote="1000")))
            await rig.settled(1)
    marks = {snapshot.as_of_ns: snapshot for snapshot in await rig.snapshots()}
    assert list(marks) == [0, HOUR_NS, 2 * HOUR_NS, 3 * HOUR_NS]
    assert marks[2 * HOUR_NS].positions[0].mark_price == 110


@pytest.mark.parametrize("close", [float("nan"), float("inf"), 0.0, -5.0])
async def test_a_price_that_cannot_be_leaves_the_account_without_a_price(rig: Rig, close: float) -> None:
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quote="1000")))
    await rig.settled(1)
    await rig.step(2, BTC=bar(2, close))
    snapshot = (await rig.snapshots())[-1]
    assert (snapshot.as_of_ns, snapshot.equity_usdt) == (2 * HOUR_NS, None)
    await rig.step(3, BTC=101.0)
    assert (await rig.snapshots())[-1].equity_usdt is not None


async def test_two_orders_in_one_step_follow_their_order(rig: Rig) -> None:
    await rig.step(1, BTC=100.0, ETH=50.0)
    await rig.approve(approve(intent(1, quote="9000")))
    await rig.approve(approve(intent(2, quote="900", instrument="ETH-USDT")))
    await rig.approve(approve(intent(3, quote="900", instrument="ETH-USDT")))
    assert await rig.settled(1, 2, 3) == [STATES.FILLED, STATES.FILLED, STATES.REJECTED]


async def test_a_clean_stop_cancels_resting_orders_only_when_told_to(tmp_path: Path) -> None:
    for cancels in (False, True):
        rig = Rig(tmp_path / str(cancels), msgspec.structs.replace(QUICK, cancel_on_stop=cancels))
        await rig.open()
        await rig.start()
        await rig.step(1, BTC=100.0)
        await rig.approve(approve(intent(1, limit="90")))
        await rig.settled(1, states=(STATES.ACCEPTED,))
        await rig.stop()
        told = [event.state for event in await rig.events(1)]
        assert told[-1] is (STATES.CANCELED if cancels else STATES.ACCEPTED)
        await rig.start()
        await rig.assert_agreement()
        await rig.stop()
