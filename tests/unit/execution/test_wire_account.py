"""What others do in the account, fees in a token of the venue's own, and a key that is refused."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.execution.config import ForeignOrders
from services.execution.core.orders import client_order_id
from shared.errors import RejectedError
from shared.exchange.port import RefusedQuestionError, VenueOrder, VenueRejectCode
from shared.messages import OrderState, OrderType, TimeInForce, TradingState
from shared.testing.fake_wire import FakeWire
from tests.unit.execution.rig import QUICK
from tests.unit.execution.samples import approve, intent
from tests.unit.execution.test_wire import WireRig, _within

D = Decimal


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[WireRig]:
    one = WireRig(tmp_path)
    one.wire = FakeWire(USDT="10000", MX="7")
    await one.open()
    yield one
    await one.crash()


async def buys(rig: WireRig, number: int, quantity: str = "3") -> list[OrderState]:
    await rig.approve(approve(intent(number, quantity=quantity)))
    return await rig.settled(number)


async def halted(rig: WireRig) -> str:
    await rig.until(lambda: rig.desk.halt_reason is not None)
    reason = rig.desk.halt_reason or ""
    await rig.set_state(TradingState.HALTED)
    await rig.until(lambda: rig.desk.state is TradingState.HALTED)
    return reason


def all_booked(rig: WireRig) -> bool:
    return rig.balances() == {asset: amount for asset, amount in rig.wire.held.items() if amount}


async def test_a_fee_in_a_token_of_the_venues_is_booked_at_its_price_and_trading_goes_on(rig: WireRig) -> None:
    rig.wire.fee_asset, rig.wire.prices = "MX", {"MX-USDT": D(2)}
    await rig.start()
    await rig.step(1, BTC=100.0)
    assert await buys(rig, 1) == [OrderState.FILLED]
    assert rig.balances() == {"USDT": D(9700), "BTC": D(3), "MX": rig.wire.held["MX"]}
    ledger = rig.desk.books.ledger
    assert ledger.fees_quote == 2 * (7 - rig.wire.held["MX"])
    assert await buys(rig, 2) == [OrderState.FILLED]
    await rig.restart()
    assert await buys(rig, 3) == [OrderState.FILLED]
    assert all_booked(rig)
    assert rig.desk.halt_reason is None
    assert await rig.halts() == []
    account = (await rig.snapshots())[-1]
    assert [one.instrument for one in account.positions] == ["BTC-USDT"]
    assert {one.asset: one.total for one in account.balances} == rig.balances()
    assert account.equity_usdt == rig.balances()["USDT"] + 100 * rig.balances()["BTC"]


async def test_a_fee_token_without_a_price_is_booked_too_and_worth_nothing(rig: WireRig) -> None:
    rig.wire.fee_asset = "MX"
    await rig.start()
    await rig.step(1, BTC=100.0)
    assert await buys(rig, 1) == [OrderState.FILLED]
    assert all_booked(rig)
    assert rig.desk.books.ledger.fees_quote == 0


@pytest.mark.parametrize("point", ["after_send_before_outcome", "after_outcome_before_publish"])
async def test_a_crash_around_the_first_fee_in_a_token_loses_and_doubles_nothing(rig: WireRig, point: str) -> None:
    rig.wire.fee_asset = "MX"
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.fault = point
    assert await buys(rig, 1) == [OrderState.FILLED]
    assert all_booked(rig)
    await rig.restart()
    assert all_booked(rig)
    assert rig.desk.halt_reason is None


async def test_a_token_that_was_topped_up_pays_fees_and_one_that_went_halts(rig: WireRig) -> None:
    rig.wire.fee_asset = "MX"
    await rig.start()
    await rig.step(1, BTC=100.0)
    assert await buys(rig, 1) == [OrderState.FILLED]
    rig.wire.held["MX"] += 5
    await rig.until(lambda: all_booked(rig))
    assert rig.desk.halt_reason is None
    rig.wire.held["MX"] -= 1
    assert "MX at the venue" in await halted(rig)
    assert (await rig.command("adopt")).ok
    assert all_booked(rig)
    await rig.set_state(TradingState.ACTIVE)
    assert await buys(rig, 2) == [OrderState.FILLED]
    assert all_booked(rig)


async def test_a_token_bought_just_before_its_fee_is_no_contradiction(rig: WireRig) -> None:
    rig.config = type(QUICK)(reconcile_interval_s=60, resolve_interval_s=60)
    rig.wire.fee_asset = "MX"
    rig.wire.held["MX"] = D("0.0001")
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1, quantity="0.05")))
    await rig.settled(1, states=(OrderState.ACCEPTED,))
    rig.wire.tell(*rig.wire.told_of(client_order_id("intent-1")))
    assert await rig.settled(1) == [OrderState.FILLED]
    rig.wire.held["MX"] += 9
    await rig.approve(approve(intent(2, quantity="4")))
    await rig.settled(2, states=(OrderState.ACCEPTED,))
    rig.wire.tell(*rig.wire.told_of(client_order_id("intent-2")))
    assert await rig.settled(2) == [OrderState.FILLED]
    assert all_booked(rig)
    assert rig.desk.halt_reason is None


async def test_a_fee_in_a_traded_asset_that_is_not_booked_is_held_back_until_it_is_adopted(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0, ETH=100.0)
    rig.wire.held["ETH"] = D(1)
    rig.wire.fee_asset = "ETH"
    await rig.approve(approve(intent(1, quantity="3")))
    reason = await halted(rig)
    assert "cascade adopt" in reason
    assert "ETH" in reason
    reply = await rig.command("adopt")
    assert reply.ok, reply.detail
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()
    assert rig.desk.halt_reason is None
    await rig.set_state(TradingState.ACTIVE)
    assert await buys(rig, 2) == [OrderState.FILLED]


def resting(rig: WireRig, name: str = "", venue_order_id: str = "777") -> VenueOrder:
    order = VenueOrder(
        client_order_id=name, venue_order_id=venue_order_id, instrument="BTC-USDT", side=intent(1).side,
        type=OrderType.LIMIT, time_in_force=TimeInForce.GTC, state=OrderState.ACCEPTED, quantity=D(1),
        quote_amount=None, limit_price=D(50), filled_quantity=D(0), filled_quote=D(0), fills=(), reason="",
        created_at_ns=1, updated_at_ns=1,
    )  # fmt: skip
    rig.wire.resting.append(order)
    return order


@pytest.mark.parametrize("name", ["", "web_12345"])
async def test_an_order_by_hand_halts_with_its_id_market_and_remedy_until_a_person_says_so(
    rig: WireRig, name: str
) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    resting(rig, name)
    reason = await halted(rig)
    for words in ("777", "BTC-USDT", "cascade adopt", "cascade resume", "execution.foreign_orders=leave_alone"):
        assert words in reason
    reply = await rig.command("adopt")
    assert reply.ok, reply.detail
    await rig.set_state(TradingState.ACTIVE)
    assert await buys(rig, 1) == [OrderState.FILLED]
    assert (await rig.command("reconcile")).detail == "books and venue agree", "it still rests there"
    resting(rig, venue_order_id="778")
    assert "778" in await halted(rig)


async def test_orders_by_hand_may_be_left_alone_and_money_that_they_move_still_halts(rig: WireRig) -> None:
    rig.config = type(QUICK)(
        reconcile_interval_s=0.1, resolve_interval_s=0.01, foreign_orders=ForeignOrders.LEAVE_ALONE
    )
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.wire.tell(resting(rig))
    trade = rig.wire.trade_of_somebody()
    with pytest.raises(TimeoutError):
        await _within(rig, 0.5, lambda: rig.desk.halt_reason is not None)
    rig.wire.move(trade)
    assert "balances differ" in await halted(rig)


async def test_an_order_of_ours_that_the_venue_shows_without_its_name_is_ours(rig: WireRig) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.wire.parts = 1
    await rig.approve(approve(intent(1, quantity="1", limit="50")))
    await rig.until(lambda: bool(rig.wire.orders))
    order = rig.wire.orders[client_order_id("intent-1")]
    shown = msgspec.structs.replace(
        order, client_order_id="", state=OrderState.ACCEPTED, filled_quantity=D(0), filled_quote=D(0)
    )
    rig.wire.resting.append(shown)
    rig.wire.tell(shown)
    assert (await rig.command("reconcile")).ok
    assert rig.desk.halt_reason is None
    rig.wire.resting.clear()
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.desk.halt_reason is None


async def test_a_nameless_order_is_not_foreign_while_one_of_ours_is_not_known(rig: WireRig) -> None:
    rig.wire.lose_answers, rig.wire.names_orders, rig.wire.hide_orders = 1, False, True
    rig.config = type(QUICK)(reconcile_interval_s=0.1, resolve_interval_s=0.01, misses_span_s=0.2)
    await rig.start()
    await rig.step(1, BTC=100.0)
    await rig.approve(approve(intent(1)))
    await rig.settled(1, states=(OrderState.UNKNOWN,))
    rig.wire.resting.append(msgspec.structs.replace(rig.wire.orders[client_order_id("intent-1")], client_order_id=""))
    with pytest.raises(TimeoutError):
        await _within(rig, 0.5, lambda: rig.desk.halt_reason is not None or not rig.desk.books.uncertain_orders())
    rig.wire.resting.clear()
    rig.wire.hide_orders = False
    assert await rig.settled(1) == [OrderState.FILLED]
    assert rig.balances() == rig.held()


@pytest.mark.parametrize(
    "refusal",
    [
        RejectedError(VenueRejectCode.PERMISSION.value, "700006 ip not in the list"),
        RefusedQuestionError("binance refuses: -2015 Invalid API-key", VenueRejectCode.PERMISSION),
    ],
    ids=["mexc", "binance"],
)
async def test_a_key_that_is_refused_again_and_again_halts_and_a_good_one_goes_on(
    rig: WireRig, refusal: Exception
) -> None:
    await rig.start()
    await rig.step(1, BTC=100.0)
    rig.wire.refusal = refusal
    reason = await halted(rig)
    for words in ("refuses the key", str(refusal), "exchange.key_file", "cascade resume"):
        assert words in reason
    rig.wire.refusal = None
    await rig.until(lambda: rig.desk.halt_reason is None)
    await rig.set_state(TradingState.ACTIVE)
    assert await buys(rig, 1) == [OrderState.FILLED]


async def test_a_key_that_was_refused_once_or_a_venue_that_is_down_halts_nothing(rig: WireRig) -> None:
    await rig.start()
    for refusal in (RejectedError(VenueRejectCode.PERMISSION.value, "x"), RejectedError("balance", "y")) * 3:
        rig.wire.refusal = refusal
        await rig.command("reconcile")
        rig.wire.refusal = None
        await rig.command("reconcile")
    rig.wire.is_down = True
    with pytest.raises(TimeoutError):
        await _within(rig, 0.5, lambda: rig.desk.halt_reason is not None)
