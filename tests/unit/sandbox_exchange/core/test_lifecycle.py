"""Cancels, partial fills on purpose, fees, and what an operator does to a market."""

from decimal import Decimal

import msgspec
import pytest

from services.sandbox_exchange.core.ledger import Ledger
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    FeeSettings,
    HoldingChanged,
    MarketChanged,
    OrderChanged,
    OrderKind,
    OrderStatus,
    PlaceOrder,
    Refusal,
    RefusalCode,
    TradingStatus,
)
from shared.matching import FeeMode
from shared.messages import TimeInForce
from tests.unit.sandbox_exchange.core.venue import BUY, MARKET, SELL, SYMBOL, Bench, d

CODE = RefusalCode
THIRD = FeeSettings(FeeMode.THIRD, "MX", Decimal(3))


def code_of(refused: pytest.ExceptionInfo[Refusal]) -> RefusalCode:
    return refused.value.code


def test_cancel_releases_what_is_locked_once() -> None:
    bench = Bench()
    order, _ = bench.place("ann", BUY, price="100", quantity="2", client_id="one")
    canceled = bench.exchange.cancel("ann", SYMBOL, bench.now_ns, client_order_id="one")
    assert (canceled.order_id, canceled.status) == (order.order_id, OrderStatus.CANCELED)
    assert bench.held("ann", "USDT") == (d(100_000), d(0))
    assert bench.levels(BUY) == []
    before = bench.exchange.dump()
    for words in ({"order_id": order.order_id}, {"client_order_id": "one"}, {"order_id": 99}, {"client_order_id": "x"}):
        with pytest.raises(Refusal) as refused:
            bench.exchange.cancel("ann", SYMBOL, bench.now_ns, **words)
        assert code_of(refused) is CODE.ORDER_UNKNOWN
    assert bench.exchange.dump() == before


def test_filled_orders_and_those_of_others_cannot_be_cancelled() -> None:
    bench = Bench()
    order, _ = bench.place("ann", BUY, price="100", quantity="2")
    with pytest.raises(Refusal) as refused:
        bench.exchange.cancel("bob", SYMBOL, bench.now_ns, order_id=order.order_id)
    assert code_of(refused) is CODE.ORDER_UNKNOWN
    bench.place("bob", SELL, quantity="2")
    with pytest.raises(Refusal) as refused:
        bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=order.order_id)
    assert code_of(refused) is CODE.ORDER_UNKNOWN


def test_cancel_all_takes_the_markets_orders_or_all() -> None:
    bench = Bench()
    bench.exchange.list_market(msgspec.structs.replace(MARKET, symbol="BTC2USDT"))
    bench.place("ann", BUY, price="100", quantity="1")
    bench.place("ann", BUY, price="99", quantity="1")
    bench.place("ann", BUY, price="98", quantity="1", symbol="BTC2USDT")
    bench.place("bob", BUY, price="97", quantity="1")
    assert [one.price for one in bench.exchange.cancel_all("ann", SYMBOL, bench.now_ns)] == [d(100), d(99)]
    assert [one.symbol for one in bench.exchange.open_orders("ann")] == ["BTC2USDT"]
    assert len(bench.exchange.cancel_all("ann", None, bench.now_ns)) == 1
    assert bench.held("ann", "USDT") == (d(100_000), d(0))
    assert len(bench.exchange.open_orders("bob")) == 1


def test_part_of_an_order_fills_and_the_rest_rests_although_there_was_more() -> None:
    bench = Bench()
    for price in ("100", "101", "103"):
        bench.offer(SELL, price, "5")
    order, trades = bench.place("ann", BUY, price="102", quantity="8", fraction="0.3")
    assert (order.status, [one.quantity for one in trades]) == (OrderStatus.PARTIALLY_FILLED, [d("2.4")])
    # The house has withdrawn what would have filled the rest: the book is not crossed.
    assert (bench.levels(BUY), bench.levels(SELL)) == ([("102.00", "5.600")], [("103.00", "5.000")])
    assert [one.order.status for one in bench.told(OrderChanged)] == [OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED]
    assert bench.held("ann", "USDT") == (d(100_000) - d(240) - d("571.2"), d("571.2"))
    canceled = bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=order.order_id)
    assert (canceled.status, canceled.executed_quantity) == (OrderStatus.CANCELED, d("2.4"))


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        ({"price": "102", "quantity": "2", "force": TimeInForce.IOC}, d("0.6")),
        ({"quantity": "2"}, d("0.6")),
        ({"quote": "200"}, d("0.6")),
        ({"quantity": "0.05"}, d("0.015")),
        ({"quantity": "0.059", "price": "100", "force": TimeInForce.IOC}, d("0.017")),
    ],
)
def test_part_of_an_order_that_cannot_rest_fills_and_the_rest_expires(words, filled) -> None:
    bench = Bench()
    bench.offer(SELL, "100", "5")
    order, _ = bench.place("ann", BUY, **words, fraction="0.3")
    assert (order.status, order.executed_quantity) == (OrderStatus.EXPIRED, filled)
    assert bench.held("ann", "USDT")[1] == 0
    assert bench.exchange.depth(SYMBOL).asks == ((d(100), d(5) - filled),)


def test_part_is_at_least_one_step() -> None:
    bench = Bench()
    bench.offer(SELL, "100", "5")
    order, _ = bench.place("ann", BUY, price="100", quantity="0.05", fraction="0.0001")
    assert order.executed_quantity == d("0.001")
    order, _ = bench.place("bob", BUY, price="5", quantity="1", fraction="0.5")
    assert (order.status, order.executed_quantity) == (OrderStatus.NEW, d(0))


def test_whole_fraction_is_an_order_like_any_other() -> None:
    bench = Bench()
    bench.offer(SELL, "100", "5")
    order, _ = bench.place("ann", BUY, price="100", quantity="2", fraction="1")
    assert order.status is OrderStatus.FILLED
    fok, _ = bench.place("ann", BUY, price="100", quantity="2", fraction="0.5", force=TimeInForce.FOK)
    assert fok.status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("mode", "taker_fee", "maker_fee"),
    [
        (FeeMode.GET, (d("0.004"), "BTC"), (d("0.2"), "USDT")),
        (FeeMode.QUOTE, (d("0.4"), "USDT"), (d("0.2"), "USDT")),
        (FeeMode.BASE, (d("0.004"), "BTC"), (d("0.002"), "BTC")),
    ],
)
def test_fee_is_charged_in_the_asset_of_the_mode(mode, taker_fee, maker_fee) -> None:
    bench = Bench(FeeSettings(mode))
    bench.place("ann", SELL, price="100", quantity="2")
    bench.place("bob", BUY, price="110", quantity="2")
    (made,), (taken,) = (bench.exchange.account_trades(name) for name in ("ann", "bob"))
    assert ((taken.fee, taken.fee_asset), (made.fee, made.fee_asset)) == (taker_fee, maker_fee)
    for name, sign in (("ann", -1), ("bob", 1)):
        fee = {asset: amount for amount, asset in [maker_fee if name == "ann" else taker_fee]}
        assert bench.held(name, "BTC") == (d(100) + sign * 2 - fee.get("BTC", 0), d(0))
        assert bench.held(name, "USDT") == (d(100_000) - sign * 200 - fee.get("USDT", 0), d(0))


def test_fee_in_a_third_asset_falls_back_when_there_is_too_little() -> None:
    bench = Bench(THIRD)
    bench.exchange.transfer("bob", "MX", d("-49.9"), bench.now_ns, "withdrawal")
    bench.place("ann", SELL, price="100", quantity="2")
    bench.place("bob", BUY, price="100", quantity="2")
    (made,), (taken,) = (bench.exchange.account_trades(name) for name in ("ann", "bob"))
    assert (made.fee, made.fee_asset) == (d("0.06666667"), "MX")  # 0.2 USDT at 3, rounded up
    assert (taken.fee, taken.fee_asset) == (d("0.004"), "BTC")  # 0.13333334 MX needed, 0.1 there
    assert bench.held("ann", "MX") == (d(50) - d("0.06666667"), d(0))
    assert [one.reason for one in bench.told(HoldingChanged) if one.holding.asset == "MX"] == ["withdrawal", "fee"]


def test_order_keeps_the_fees_that_it_was_placed_under() -> None:
    bench = Bench()
    bench.place("ann", SELL, price="100", quantity="2")
    bench.exchange.list_market(msgspec.structs.replace(MARKET, maker_rate=d("0.5")))
    bench.place("bob", BUY, price="100", quantity="2")
    assert bench.exchange.account_trades("ann")[0].fee == d("0.2")


def test_new_grid_is_refused_while_an_order_rests_off_it() -> None:
    bench = Bench()
    bench.place("ann", SELL, price="100.01", quantity="2")
    coarse = msgspec.structs.replace(
        MARKET, instrument=msgspec.structs.replace(MARKET.instrument, tick_size=d("0.05"), step_size=d("0.5"))
    )
    with pytest.raises(Refusal) as refused:
        bench.exchange.list_market(coarse)
    assert code_of(refused) is CODE.MALFORMED
    assert bench.exchange.markets[SYMBOL] == MARKET
    bench.exchange.cancel_all("ann", None, bench.now_ns)
    bench.place("ann", SELL, price="100.05", quantity="2.5")
    bench.exchange.list_market(coarse)
    assert bench.levels(SELL) == [("100.05", "2.5")]
    bench.place("bob", BUY, quantity="2.5")
    assert bench.exchange.open_orders("ann") == []


def test_paused_market_lets_cancels_through_and_delisting_cancels_all() -> None:
    bench = Bench()
    first, _ = bench.place("ann", BUY, price="100", quantity="1")
    bench.place("bob", BUY, price="100", quantity="1")
    bench.offer(SELL, "101", "1")
    bench.exchange.set_status(SYMBOL, TradingStatus.PAUSED, bench.now_ns)
    bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=first.order_id)
    assert len(bench.levels(BUY)) == 1
    bench.events.clear()
    bench.exchange.set_status(SYMBOL, TradingStatus.DELISTED, bench.now_ns)
    assert (bench.levels(BUY), bench.levels(SELL)) == ([], [])
    assert [one.order.status for one in bench.told(OrderChanged)] == [OrderStatus.CANCELED]
    assert [one.market.status for one in bench.told(MarketChanged)] == [TradingStatus.DELISTED]
    assert bench.held("bob", "USDT") == (d(100_000), d(0))
    bench.exchange.set_status(SYMBOL, TradingStatus.TRADING, bench.now_ns)
    bench.place("ann", BUY, price="100", quantity="1")


def test_redenomination_moves_grid_and_holdings_and_cancels_orders() -> None:
    bench = Bench()
    bench.offer(SELL, "101", "1")
    bench.place("ann", BUY, quantity="0.1")
    bench.place("ann", SELL, price="200", quantity="50")
    bench.exchange.redenominate(SYMBOL, d(1000), bench.now_ns)
    instrument = bench.exchange.markets[SYMBOL].instrument
    assert (instrument.tick_size, instrument.step_size, instrument.quantity_min) == (
        d(10),
        d("0.000001"),
        d("0.000002"),
    )
    assert bench.held("ann", "BTC") == (d("0.1000998"), d(0))
    assert bench.exchange.open_orders("ann") == []
    assert bench.exchange.depth(SYMBOL).asks == ()
    order, _ = bench.place("ann", SELL, price="101000", quantity="0.000123")
    assert order.status is OrderStatus.NEW
    totals = msgspec.json.decode(bench.exchange.ledger(), type=Ledger).totals
    assert {one.difference for one in totals.values()} == {d(0)}


def test_redenomination_without_an_exact_quotient_changes_nothing() -> None:
    bench = Bench()
    bench.place("ann", SELL, price="200", quantity="50")
    before = bench.exchange.dump()
    for factor in (d(3), d(0), d(-10), Decimal("NaN")):
        with pytest.raises(Refusal) as refused:
            bench.exchange.redenominate(SYMBOL, factor, bench.now_ns)
        assert code_of(refused) is CODE.MALFORMED
    assert bench.exchange.dump() == before


def test_redenomination_that_fits_the_grid_but_no_holding_changes_nothing() -> None:
    thirds = msgspec.structs.replace(MARKET.instrument, step_size=d("0.003"), quantity_min=d("0.003"))
    bench = Bench(instrument=thirds, quantity_max=d(999))
    bench.place("ann", SELL, price="200", quantity="30")
    before = bench.exchange.dump()
    with pytest.raises(Refusal) as refused:
        bench.exchange.redenominate(SYMBOL, d(3), bench.now_ns)
    assert code_of(refused) is CODE.MALFORMED
    assert bench.exchange.dump() == before


def test_transfers_move_what_is_free() -> None:
    bench = Bench()
    bench.place("ann", BUY, price="100", quantity="900")
    with pytest.raises(Refusal) as refused:
        bench.exchange.transfer("ann", "USDT", d("-10000.01"), bench.now_ns, "withdrawal")
    assert code_of(refused) is CODE.BALANCE
    bench.exchange.transfer("ann", "USDT", d(-10_000), bench.now_ns, "withdrawal")
    bench.exchange.transfer("ann", "DOGE", d(7), bench.now_ns, "airdrop")
    assert bench.held("ann", "USDT") == (d(0), d(90_000))
    assert bench.told(HoldingChanged)[-1].reason == "airdrop"
    for account, amount in (("nobody", d(1)), ("ann", Decimal("NaN")), ("ann", Decimal("Infinity"))):
        with pytest.raises(Refusal):
            bench.exchange.transfer(account, "USDT", amount, bench.now_ns, "deposit")


def test_account_is_opened_once() -> None:
    bench = Bench()
    before = bench.exchange.dump()
    for account in (Account("ann", "other", "s"), Account("new", "key-ann", "s"), Account(HOUSE, "h", "s")):
        with pytest.raises(Refusal):
            bench.exchange.open_account(account, {"USDT": d(1)}, bench.now_ns)
    with pytest.raises(Refusal):
        bench.exchange.open_account(Account("new", "new", "s"), {"BTC": d(1), "USDT": d(-1)}, bench.now_ns)
    assert bench.exchange.dump() == before


def test_queries_name_what_they_do_not_know() -> None:
    exchange = Bench().exchange
    for ask in (
        lambda: exchange.depth("NOPE"),
        lambda: exchange.trades("NOPE", 5),
        lambda: exchange.ticker("NOPE", 0),
        lambda: exchange.orders("ann", "NOPE"),
        lambda: exchange.cancel("ann", "NOPE", 0, order_id=1),
    ):
        with pytest.raises(Refusal) as refused:
            ask()
        assert code_of(refused) is CODE.SYMBOL_UNKNOWN
    with pytest.raises(Refusal) as refused:
        exchange.holdings("nobody")
    assert code_of(refused) is CODE.PERMISSION


def test_nothing_is_told_while_nobody_listens_and_memory_stays_bounded() -> None:
    bench = Bench()
    exchange = bench.exchange
    for number in range(2_000):
        side = BUY if number % 2 else SELL
        exchange.place(PlaceOrder(HOUSE, SYMBOL, side, OrderKind.LIMIT, d(1), price=d(100)), bench.now_ns)
    before = len(exchange.dump())
    for number in range(2_000):
        side = BUY if number % 2 else SELL
        exchange.place(PlaceOrder(HOUSE, SYMBOL, side, OrderKind.LIMIT, d(1), price=d(100)), bench.now_ns)
    assert exchange.orders(HOUSE, SYMBOL) == []
    assert len(exchange.trades(SYMBOL, 100_000)) == 2_000
    grown = (len(exchange.dump()) - before) / 1_000
    assert grown < 100, "only the public tape grows, until its bound"
