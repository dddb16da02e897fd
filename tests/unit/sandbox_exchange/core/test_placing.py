"""Each kind of order, as the sandbox venue handles it."""

import pytest

from services.sandbox_exchange.core.model import (
    HOUSE,
    HoldingChanged,
    LevelChanged,
    OrderChanged,
    OrderKind,
    OrderStatus,
    TradePrinted,
)
from shared.matching import SelfTradePrevention
from shared.messages import TimeInForce
from tests.unit.sandbox_exchange.core.venue import BUY, SELL, SYMBOL, Bench, d, refusal_of

IOC, FOK = TimeInForce.IOC, TimeInForce.FOK


def book_of_asks() -> Bench:
    bench = Bench()
    for price, quantity in (("100", "1"), ("101", "2"), ("102", "3")):
        bench.offer(SELL, price, quantity)
    bench.events.clear()
    return bench


def test_limit_order_that_fills_in_part_rests_with_its_money_locked() -> None:
    bench = book_of_asks()
    order, trades = bench.place("ann", BUY, price="101", quantity="5", client_id="mine")
    assert [(one.price, one.quantity, one.is_maker) for one in trades] == [(d(100), d(1), False), (d(101), d(2), False)]
    assert (order.status, order.executed_quantity, order.executed_quote) == (OrderStatus.PARTIALLY_FILLED, d(3), d(302))
    assert bench.levels(BUY) == [("101.00", "2.000")]
    # Bought below its limit: what is locked is only what the rest needs.
    assert bench.held("ann", "USDT") == (d(100_000) - d(302) - d(202), d(202))
    assert bench.held("ann", "BTC") == (d(100) + d(3) * d("0.998"), d(0))


def test_resting_order_fills_as_maker_at_its_own_price() -> None:
    bench = Bench()
    order, _ = bench.place("ann", SELL, price="100", quantity="2")
    assert (order.status, bench.held("ann", "BTC")) == (OrderStatus.NEW, (d(98), d(2)))
    _, (taken,) = bench.place("bob", BUY, price="105", quantity="1")
    assert (taken.price, taken.fee, taken.fee_asset) == (d(100), d("0.002"), "BTC")
    (made,) = bench.exchange.account_trades("ann")
    assert (made.is_maker, made.fee, made.fee_asset, made.trade_id) == (True, d("0.1"), "USDT", taken.trade_id)
    assert bench.held("ann", "BTC") == (d(98), d(1))
    assert bench.held("ann", "USDT") == (d("100099.9"), d(0))
    assert bench.exchange.order("ann", SYMBOL, order_id=order.order_id).status is OrderStatus.PARTIALLY_FILLED


def test_ioc_order_gives_up_what_does_not_fill() -> None:
    bench = book_of_asks()
    order, trades = bench.place("ann", BUY, price="100", quantity="5", force=IOC)
    assert (order.status, len(trades), order.executed_quantity) == (OrderStatus.EXPIRED, 1, d(1))
    assert bench.held("ann", "USDT") == (d(99_900), d(0))
    assert bench.levels(BUY) == []


def test_fok_order_fills_whole_or_not_at_all() -> None:
    bench = book_of_asks()
    missed, trades = bench.place("ann", BUY, price="101", quantity="3.001", force=FOK)
    assert (missed.status, trades, missed.executed_quantity) == (OrderStatus.EXPIRED, (), d(0))
    hit, trades = bench.place("ann", BUY, price="101", quantity="3", force=FOK)
    assert (hit.status, len(trades)) == (OrderStatus.FILLED, 2)
    assert bench.held("ann", "USDT") == (d(99_698), d(0))


def test_limit_maker_rests_when_it_does_not_take() -> None:
    bench = book_of_asks()
    order, trades = bench.place("ann", BUY, price="99.99", quantity="1", kind=OrderKind.LIMIT_MAKER)
    assert (order.status, order.kind, trades) == (OrderStatus.NEW, OrderKind.LIMIT_MAKER, ())
    assert bench.levels(BUY) == [("99.99", "1.000")]


def test_market_buy_by_quantity_locks_what_the_book_asks() -> None:
    bench = book_of_asks()
    order, trades = bench.place("ann", BUY, quantity="4")
    assert (order.status, order.executed_quote) == (OrderStatus.FILLED, d(100 + 202 + 102))
    assert len(trades) == 3
    placed = next(one for one in bench.told(HoldingChanged) if one.reason == "place")
    assert (placed.free_change, placed.locked_change) == (d(-404), d(404))
    assert bench.held("ann", "USDT") == (d(100_000 - 404), d(0))


def test_market_order_beyond_the_book_expires_with_what_it_got() -> None:
    bench = book_of_asks()
    order, _ = bench.place("ann", BUY, quantity="10")
    assert (order.status, order.quantity, order.executed_quantity) == (OrderStatus.EXPIRED, d(10), d(6))
    assert bench.held("ann", "USDT")[1] == 0
    nothing, trades = bench.place("ann", BUY, quantity="10")
    assert (nothing.status, trades) == (OrderStatus.EXPIRED, ())


def test_market_buy_by_quote_amount_never_spends_more() -> None:
    bench = book_of_asks()
    order, trades = bench.place("ann", BUY, quote="150.05")
    assert order.status is OrderStatus.FILLED
    assert [(one.price, one.quantity) for one in trades] == [(d(100), d(1)), (d(101), d("0.495"))]
    assert (order.quantity, order.quote_amount) == (d("1.495"), d("150.05"))
    assert bench.held("ann", "USDT") == (d(100_000) - d("149.995"), d(0))


def test_market_sell_by_quote_amount_locks_only_what_it_needs() -> None:
    bench = Bench()
    for price in ("100", "90"):
        bench.offer(BUY, price, "1")
    order, _ = bench.place("ann", SELL, quote="195")
    # 1 at 100 leaves 95, which is 1 more at 90 (the last 5 buy nothing: the book is empty).
    assert (order.executed_quantity, order.executed_quote) == (d(2), d(190))
    placed = next(one for one in bench.told(HoldingChanged) if one.reason == "place")
    assert placed.locked_change == d(2)
    assert bench.held("ann", "BTC") == (d(98), d(0))


def test_market_sell_by_quote_amount_goes_on_below_a_level_that_it_took_whole() -> None:
    bench = Bench()
    for price in ("100", "90"):
        bench.offer(BUY, price, "1")
    # 1 at 100 is all that 100.095 buys there, and the 0.095 left is worth one step at 90.
    order, _ = bench.place("ann", SELL, quote="100.095")
    assert (order.executed_quantity, order.executed_quote) == (d("1.001"), d("100.09"))
    assert bench.held("ann", "BTC") == (d("98.999"), d(0))


def test_events_come_in_order_and_after_the_change() -> None:
    bench = book_of_asks()
    seen: list[int] = []
    bench.exchange.listen(lambda event: seen.append(bench.exchange.depth(SYMBOL).version))
    bench.place("ann", BUY, price="100", quantity="2")
    kinds = [type(event) for event in bench.events]
    assert kinds == [OrderChanged, HoldingChanged, LevelChanged, TradePrinted, OrderChanged] + [HoldingChanged] * 2 + [
        LevelChanged
    ]
    assert [one.order.status for one in bench.told(OrderChanged)] == [OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED]
    assert [(one.version, one.side, one.price, one.quantity) for one in bench.told(LevelChanged)] == [
        (4, SELL, d(100), d(0)),
        (5, BUY, d(100), d(1)),
    ]
    assert set(seen) == {5}


def test_nested_calls_of_a_listener_tell_after_the_outer_call() -> None:
    bench = book_of_asks()
    versions: list[int] = []

    def refill(event: object) -> None:
        if isinstance(event, LevelChanged):
            versions.append(event.version)
            if event.version == 4:
                bench.offer(SELL, "103", "1")

    last: list[object] = []
    bench.exchange.listen(refill)
    bench.exchange.listen(last.append)
    bench.place("ann", BUY, price="101", quantity="2")
    assert versions == [4, 5, 6]
    assert [one.version for one in bench.told(LevelChanged)] == [4, 5, 6]
    assert last == bench.events


@pytest.mark.parametrize(
    ("stp", "taker", "makers", "left"),
    [
        (SelfTradePrevention.CANCEL_TAKER, OrderStatus.EXPIRED_IN_MATCH, [OrderStatus.NEW], d(2)),
        (SelfTradePrevention.CANCEL_MAKER, OrderStatus.FILLED, [OrderStatus.EXPIRED_IN_MATCH], d(1)),
        (SelfTradePrevention.CANCEL_BOTH, OrderStatus.EXPIRED_IN_MATCH, [OrderStatus.EXPIRED_IN_MATCH], d(2)),
        (SelfTradePrevention.NONE, OrderStatus.FILLED, [OrderStatus.FILLED], d(2)),
    ],
)
def test_self_trade_prevention(stp, taker, makers, left) -> None:
    bench = Bench()
    bench.place("ann", SELL, price="100", quantity="1")
    bench.offer(SELL, "101", "2")
    order, trades = bench.place("ann", BUY, quantity="1", stp=stp)
    assert order.status is taker
    assert [one.status for one in bench.exchange.orders("ann", SYMBOL)[:1]] == makers
    assert bench.exchange.depth(SYMBOL).asks[-1][1] == left
    assert [one.is_self_trade for one in trades] == ([stp is SelfTradePrevention.NONE] if trades else [])
    assert bench.held("ann", "USDT")[1] == 0
    assert bench.held("ann", "BTC")[1] == (1 if stp is SelfTradePrevention.CANCEL_TAKER else 0)


def test_self_trade_books_both_sides() -> None:
    bench = Bench()
    bench.place("ann", SELL, price="100", quantity="1")
    bench.place("ann", BUY, price="100", quantity="1")
    maker, taker = bench.exchange.account_trades("ann")
    assert (maker.is_maker, taker.is_maker, maker.trade_id, taker.trade_id) == (True, False, 1, 1)
    assert bench.held("ann", "USDT") == (d(100_000) - d("0.1"), d(0))
    assert bench.held("ann", "BTC") == (d(100) - d("0.002"), d(0))


def test_market_buy_that_skips_own_orders_is_asked_for_the_dearer_ones() -> None:
    bench = Bench()
    bench.place("ann", SELL, price="100", quantity="1")
    bench.offer(SELL, "99999", "2")
    bench.place("ann", BUY, price="50", quantity="20")
    # 99,000 USDT are free: enough for the own order at 100, not for the one behind it.
    assert refusal_of(bench, "ann", BUY, quantity="1", stp=SelfTradePrevention.CANCEL_MAKER) == "balance"


def test_house_is_never_short_and_leaves_no_trace_but_the_market() -> None:
    bench = Bench()
    order = bench.offer(SELL, "100", "500")
    bench.place(HOUSE, BUY, price="100", quantity="100")
    bench.exchange.cancel(HOUSE, SYMBOL, bench.now_ns, order_id=order.order_id)
    assert {type(event) for event in bench.events} == {LevelChanged, TradePrinted}
    assert bench.exchange.orders(HOUSE, SYMBOL) == []
    assert bench.exchange.account_trades(HOUSE) == []
    assert [one.quantity for one in bench.exchange.trades(SYMBOL, 10)] == [d(100)]
    assert bench.held(HOUSE, "BTC") == (d(0), d(0))


def test_house_holds_the_other_side_of_everybodys_trades() -> None:
    bench = book_of_asks()
    bench.place("ann", BUY, quantity="2")
    assert bench.held(HOUSE, "BTC") == (d(-2), d(0))
    assert bench.held(HOUSE, "USDT") == (d(201), d(0))


def test_public_tape_keeps_the_newest_trades() -> None:
    bench = book_of_asks()
    for _ in range(3):
        bench.place("ann", BUY, quantity="1")
    assert [(one.trade_id, one.price) for one in bench.exchange.trades(SYMBOL, 2)] == [(2, d(101)), (3, d(101))]
    assert bench.exchange.trades(SYMBOL, 0) == []
