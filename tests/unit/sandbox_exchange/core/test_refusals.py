"""What the sandbox venue refuses, at the limit and one step beyond it. A refusal changes nothing."""

import pytest

from services.sandbox_exchange.core.model import OrderKind, PlaceOrder, Refusal, RefusalCode, TradingStatus
from shared.matching import FeeMode
from shared.messages import TimeInForce
from tests.unit.sandbox_exchange.core.venue import BUY, SELL, SYMBOL, Bench, d, refusal_of

CODE = RefusalCode


@pytest.mark.parametrize(
    ("request_words", "code"),
    [
        ({"price": "100.00", "quantity": "0.050"}, None),
        ({"price": "100.001", "quantity": "1"}, CODE.PRICE_GRID),
        ({"price": "100", "quantity": "1.0001"}, CODE.QUANTITY_GRID),
        ({"price": "10000", "quantity": "0.002"}, None),
        ({"price": "10000", "quantity": "0.001"}, CODE.QUANTITY_MIN),
        ({"price": "5", "quantity": "1000"}, None),
        ({"price": "5", "quantity": "1000.001"}, CODE.QUANTITY_MAX),
        ({"price": "5", "quantity": "1"}, None),
        ({"price": "4.99", "quantity": "1"}, CODE.NOTIONAL_MIN),
        ({"price": "1000.01", "quantity": "1000"}, CODE.NOTIONAL_MAX),
        ({"price": "0", "quantity": "1"}, CODE.MALFORMED),
        ({"price": "-1", "quantity": "1"}, CODE.MALFORMED),
        ({"price": "NaN", "quantity": "1"}, CODE.MALFORMED),
        ({"price": "Infinity", "quantity": "1"}, CODE.MALFORMED),
        ({"price": "1E+40", "quantity": "1"}, CODE.MALFORMED),
        ({"price": "100", "quantity": "0"}, CODE.MALFORMED),
        ({"price": "100"}, CODE.MALFORMED),
        ({"price": "100", "quantity": "1", "quote": "100"}, CODE.MALFORMED),
        ({"kind": OrderKind.LIMIT, "quantity": "1"}, CODE.MALFORMED),
        ({"kind": OrderKind.MARKET, "price": "100", "quantity": "1"}, CODE.MALFORMED),
        ({}, CODE.MALFORMED),
        ({"quantity": "1", "quote": "100"}, CODE.MALFORMED),
        ({"quantity": "1", "force": TimeInForce.POST_ONLY}, CODE.MALFORMED),
        ({"kind": OrderKind.LIMIT_MAKER, "price": "99", "quantity": "1", "force": TimeInForce.IOC}, CODE.MALFORMED),
        ({"quote": "5"}, None),
        ({"quote": "4.99"}, CODE.NOTIONAL_MIN),
        ({"quantity": "0.049"}, CODE.NOTIONAL_MIN),
        ({"price": "100", "quantity": "1", "symbol": "NOPE"}, CODE.SYMBOL_UNKNOWN),
        ({"kind": OrderKind.LIMIT_MAKER, "price": "101", "quantity": "1"}, CODE.WOULD_TAKE),
        ({"force": TimeInForce.POST_ONLY, "price": "101", "quantity": "1"}, CODE.WOULD_TAKE),
        ({"kind": OrderKind.LIMIT_MAKER, "price": "100.99", "quantity": "1"}, None),
    ],
)
def test_buy_is_refused_for(request_words, code) -> None:
    bench = Bench()
    bench.offer(SELL, "101", "1")
    assert refusal_of(bench, "ann", BUY, **request_words) == code


def test_balance_is_asked_to_the_last_unit() -> None:
    bench = Bench()
    assert refusal_of(bench, "ann", BUY, price="100", quantity="1000.000") is None
    assert refusal_of(bench, "ann", BUY, price="5", quantity="1") is CODE.BALANCE
    assert refusal_of(bench, "ann", SELL, price="100", quantity="100.001") is CODE.BALANCE
    assert refusal_of(bench, "ann", SELL, price="200", quantity="100") is None


def test_market_buy_by_quantity_is_asked_for_the_cost_of_the_book() -> None:
    bench = Bench()
    bench.offer(SELL, "100000", "1")
    bench.offer(SELL, "100000.01", "1")
    assert refusal_of(bench, "ann", BUY, quantity="1.001") is CODE.BALANCE
    assert refusal_of(bench, "ann", BUY, quantity="1") is None


def test_fee_in_the_spent_asset_must_be_there_too() -> None:
    bench = Bench()
    words = {"price": "100", "fee_mode": FeeMode.QUOTE}
    assert refusal_of(bench, "ann", BUY, quantity="1000", **words) is CODE.BALANCE
    assert refusal_of(bench, "ann", BUY, quantity="998.003", **words) is None


@pytest.mark.parametrize("status", [TradingStatus.PAUSED, TradingStatus.CANCEL_ONLY, TradingStatus.DELISTED])
def test_market_that_does_not_trade_takes_no_order(status) -> None:
    bench = Bench()
    bench.exchange.set_status(SYMBOL, status, bench.now_ns)
    assert refusal_of(bench, "ann", BUY, price="100", quantity="1") is CODE.MARKET_NOT_TRADING
    assert refusal_of(bench, "house", BUY, price="100", quantity="1") is CODE.MARKET_NOT_TRADING


def test_side_that_is_closed_takes_no_order() -> None:
    bench = Bench(allowed_sides=frozenset({SELL}))
    assert refusal_of(bench, "ann", BUY, price="100", quantity="1") is CODE.SIDE_NOT_ALLOWED
    assert refusal_of(bench, "ann", SELL, price="100", quantity="1") is None


def test_key_without_permission_neither_places_nor_cancels() -> None:
    bench = Bench()
    assert refusal_of(bench, "eve", BUY, price="100", quantity="1") is CODE.PERMISSION
    assert refusal_of(bench, "nobody", BUY, price="100", quantity="1") is CODE.PERMISSION
    for account in ("eve", "nobody"):
        with pytest.raises(Refusal, match="permission"):
            bench.exchange.cancel_all(account, None, bench.now_ns)


def test_client_order_id_is_taken_while_its_order_is_open() -> None:
    bench = Bench()
    first, _ = bench.place("ann", BUY, price="100", quantity="1", client_id="one")
    assert refusal_of(bench, "ann", BUY, price="99", quantity="1", client_id="one") is CODE.CLIENT_ID_TAKEN
    assert refusal_of(bench, "bob", BUY, price="99", quantity="1", client_id="one") is None
    bench.exchange.cancel("ann", SYMBOL, bench.now_ns, client_order_id="one")
    second, _ = bench.place("ann", BUY, price="99", quantity="1", client_id="one")
    assert bench.exchange.order("ann", SYMBOL, client_order_id="one").order_id == second.order_id != first.order_id


def test_client_order_id_in_use_is_accepted_on_purpose() -> None:
    bench = Bench()
    bench.place("ann", BUY, price="100", quantity="1", client_id="one")
    second, _ = bench.place("ann", BUY, price="99", quantity="1", client_id="one", accept_duplicate_id=True)
    bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=second.order_id)
    # The first one still rests under that id.
    assert refusal_of(bench, "ann", BUY, price="99", quantity="1", client_id="one") is CODE.CLIENT_ID_TAKEN


def test_client_order_id_is_made_when_absent() -> None:
    bench = Bench()
    order, _ = bench.place("ann", BUY, price="100", quantity="1")
    assert order.client_order_id
    assert bench.exchange.order("ann", SYMBOL, client_order_id=order.client_order_id) == order


def test_open_orders_are_bounded() -> None:
    bench = Bench()
    for _ in range(500):
        bench.place("ann", BUY, price="10", quantity="0.5")
    assert refusal_of(bench, "ann", BUY, price="10", quantity="0.5") is CODE.ORDERS_MAX
    assert refusal_of(bench, "bob", BUY, price="10", quantity="0.5") is None
    newest = bench.exchange.open_orders("ann")[-1]
    bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=newest.order_id)
    assert refusal_of(bench, "ann", BUY, price="10", quantity="0.5") is None


def test_check_says_what_place_would_say_and_changes_nothing() -> None:
    bench = Bench()
    before = bench.exchange.dump()
    bench.exchange.check(PlaceOrder("ann", SYMBOL, BUY, OrderKind.LIMIT, quantity=d(1), price=d(100)))
    with pytest.raises(Refusal) as refused:
        bench.exchange.check(PlaceOrder("ann", SYMBOL, BUY, OrderKind.LIMIT, quantity=d(1), price=d("100.001")))
    assert refused.value.code is CODE.PRICE_GRID
    assert bench.exchange.dump() == before


@pytest.mark.parametrize("amount", ["1e400", "1E+999999999", "1E-999999999", "-1E-999999999", "1e30", "NaN"])
def test_a_transfer_that_no_sum_has_room_for_leaves_no_trace(amount: str) -> None:
    bench = Bench()
    before = bench.exchange.ledger()
    for asset in ("USDT", "NEW"):
        with pytest.raises(Refusal) as refused:
            bench.exchange.transfer("ann", asset, d(amount), 0, "x")
        assert refused.value.code is CODE.MALFORMED
    assert bench.exchange.ledger() == before
