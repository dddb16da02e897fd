"""What the paper venue does with orders: fills, refusals, cancels, the same id twice."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from shared.errors import InputError, IntegrityError, RejectedError
from shared.exchange.paper import PaperVenue
from shared.exchange.port import OrderRequest, SimulatedVenue, VenueOrder
from shared.matching import FeeMode, FeeSchedule, FillModel
from shared.messages import Balance, Instrument, Liquidity, OrderState, OrderType, Side, TimeInForce
from shared.testing.paper import BTC, HOUR_NS, bar, bbo, book, closed, limit, market

BUY, SELL = Side.BUY, Side.SELL


async def money(venue: PaperVenue, asset: str) -> tuple[Decimal, Decimal]:
    found = {balance.asset: balance for balance in await venue.balances()}
    return found[asset].free, found[asset].locked


def test_paper_venue_is_a_simulated_venue(venue: PaperVenue) -> None:
    as_port: SimulatedVenue = venue
    assert as_port.venue == "paper"


async def test_market_buy_by_quote_fills_against_the_last_bar(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    order = await venue.submit(market("a", BUY, quote="1000"))
    assert order.state is OrderState.FILLED
    (fill,) = order.fills
    assert (fill.price, fill.quantity) == (Decimal("100.15"), Decimal("9.9850"))
    assert (fill.fee, fill.fee_asset, fill.liquidity) == (Decimal("0.009985"), "BTC", Liquidity.TAKER)
    assert fill.ts_event_ns == HOUR_NS
    assert order.filled_quote == Decimal("999.99775")
    assert await money(venue, "USDT") == (Decimal("9000.00225"), 0)
    assert await money(venue, "BTC") == (Decimal("11.975015"), 0)


async def test_market_sell_fills_and_pays_its_fee_from_the_proceeds(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    order = await venue.submit(market("a", SELL, quantity="1.5"))
    assert order.state is OrderState.FILLED
    assert await money(venue, "BTC") == (Decimal("0.5"), 0)
    assert await money(venue, "USDT") == (10_000 + Decimal("149.775") * Decimal("0.999"), 0)


async def test_same_client_id_returns_the_same_order_and_never_fills_twice(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    first = await venue.submit(market("a", BUY, quote="1000"))
    after = await venue.balances()
    await venue.on_bar(bar(2, 50.0))
    assert await venue.submit(market("a", BUY, quote="1000.00")) == first
    assert await venue.balances() == after
    assert len(await venue.trades_since(0)) == 1


async def test_same_client_id_with_another_request_is_an_integrity_error(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.submit(market("a", BUY, quote="1000"))
    with pytest.raises(IntegrityError, match="taken by another request"):
        await venue.submit(market("a", BUY, quote="1001"))
    assert len(await venue.trades_since(0)) == 1


async def test_volume_cap_fills_in_part_and_is_shared_by_the_orders_of_one_bar(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0, volume=15.0))
    first = await venue.submit(market("a", SELL, quantity="1"))
    second = await venue.submit(market("b", SELL, quantity="0.9"))
    assert (first.state, first.filled_quantity) == (OrderState.FILLED, Decimal(1))
    assert (second.state, second.filled_quantity, second.reason) == (OrderState.CANCELED, Decimal("0.5"), "volume_cap")
    await venue.on_bar(bar(2, 100.0, volume=15.0))
    assert (await venue.submit(market("c", SELL, quantity="0.5"))).state is OrderState.FILLED


@pytest.mark.parametrize("request_", [market("a", BUY, quote="100"), market("a", BUY, quantity="1")])
async def test_bar_without_volume_fills_nothing(venue: PaperVenue, request_: OrderRequest) -> None:
    await venue.on_bar(bar(1, 100.0, volume=0.0))
    order = await venue.submit(request_)
    assert (order.state, order.fills, order.reason) == (OrderState.CANCELED, (), "no_volume")
    assert await money(venue, "USDT") == (10_000, 0)


async def test_price_bound_stops_a_market_order(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    order = await venue.submit(market("a", BUY, quote="100", bound="100.04"))
    assert (order.state, order.fills, order.reason) == (OrderState.CANCELED, (), "price_bound")
    within = await venue.submit(market("b", BUY, quote="100", bound="100.1"))
    assert within.fills[0].price == Decimal("100.1")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (market("a", BUY, quote="100", instrument="XYZ-USDT"), "instrument_unknown"),
        (market("a", BUY, quote="100", instrument="ETH-USDT"), "market_missing"),
        (market("a", SELL, quantity="0.00015"), "precision"),
        (limit("a", BUY, "1", "99.995"), "precision"),
        (market("a", SELL, quantity="0.0001"), "quantity_min"),
        (market("a", SELL, quantity="0.0499"), "notional_min"),
        (market("a", BUY, quote="4.99"), "notional_min"),
        (limit("a", BUY, "0.05", "99.99"), "notional_min"),
        (market("a", BUY, quote="10000.01"), "balance"),
        (market("a", BUY, quantity="99.86"), "balance"),
        (market("a", SELL, quantity="2.0001"), "balance"),
        (limit("a", BUY, "100.02", "99.99"), "balance"),
        (limit("a", SELL, "2.0001", "200"), "balance"),
        (limit("a", BUY, "1", "100.05", force=TimeInForce.POST_ONLY), "post_only_would_take"),
        (market("", BUY, quote="100"), "request_malformed"),
        (market("a", BUY), "request_malformed"),
        (market("a", BUY, quote="100", quantity="1"), "request_malformed"),
        (market("a", BUY, quote="NaN"), "request_malformed"),
        (market("a", BUY, quote="-5"), "request_malformed"),
        (market("a", BUY, quote="1e400"), "request_malformed"),
        (market("a", BUY, quantity="Infinity"), "request_malformed"),
        (market("a", BUY, quantity="1", force=TimeInForce.POST_ONLY), "request_malformed"),
        (OrderRequest("a", "BTC-USDT", BUY, OrderType.LIMIT, quantity=Decimal(1)), "request_malformed"),
    ],
)
async def test_refused_order_leaves_no_trace(venue: PaperVenue, request_: OrderRequest, code: str) -> None:
    await venue.on_bar(bar(1, 100.0))
    before = await venue.balances()
    with pytest.raises(RejectedError) as raised:
        await venue.submit(request_)
    assert raised.value.code == code
    assert await venue.query("a", "BTC-USDT") is None
    assert await venue.balances() == before
    assert await venue.open_orders() == ()


async def test_quote_amount_below_one_step_is_refused(venue: PaperVenue) -> None:
    coarse = Instrument("BIG-USDT", "BIG", "USDT", Decimal("0.01"), Decimal(1), Decimal(0), Decimal(0))
    await venue.define_instrument(coarse)
    await venue.on_bar(bar(1, 100.0, instrument="BIG-USDT"))
    with pytest.raises(RejectedError, match="quantity_min"):
        await venue.submit(market("a", BUY, quote="100", instrument="BIG-USDT"))
    await venue.on_book(book(2 * HOUR_NS, ((99.0, 5.0),), ((101.0, 5.0),), "BIG-USDT"))
    with pytest.raises(RejectedError, match="quantity_min"):
        await venue.submit(market("a", BUY, quote="100.99", instrument="BIG-USDT"))


async def test_limit_order_locks_its_money_and_gives_it_back_when_cancelled(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    order = await venue.submit(limit("a", BUY, "10", "90"))
    assert (order.state, await money(venue, "USDT")) == (OrderState.ACCEPTED, (Decimal(9100), Decimal(900)))
    assert [resting.client_order_id for resting in await venue.open_orders("BTC-USDT")] == ["a"]
    canceled = await venue.cancel("a", "BTC-USDT")
    assert canceled is not None and (canceled.state, canceled.reason) == (OrderState.CANCELED, "requested")
    assert await money(venue, "USDT") == (10_000, 0)
    assert await venue.cancel("a", "BTC-USDT") == canceled
    assert await money(venue, "USDT") == (10_000, 0)


async def test_cancel_and_query_of_an_unknown_order_answer_none(venue: PaperVenue) -> None:
    assert await venue.cancel("nobody", "BTC-USDT") is None
    assert await venue.query("nobody", "BTC-USDT") is None


async def test_cancel_of_a_filled_order_changes_nothing(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    order = await venue.submit(market("a", SELL, quantity="1"))
    before = await venue.balances()
    assert await venue.cancel("a", "BTC-USDT") == order
    assert await venue.balances() == before


async def test_limit_order_is_filled_by_a_later_bar_at_its_price_as_maker(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.submit(limit("a", BUY, "10", "90"))
    assert await venue.on_bar(bar(2, 95.0, opening=100.0, low=90.01)) == ()
    (trade,) = await venue.on_bar(bar(3, 92.0, opening=95.0, low=89.0))
    assert (trade.client_order_id, trade.fill.price, trade.fill.liquidity) == ("a", Decimal(90), Liquidity.MAKER)
    assert trade.fill.fee == Decimal("0.002")
    order = await venue.query("a", "BTC-USDT")
    assert order is not None and (order.state, order.fills) == (OrderState.FILLED, (trade.fill,))
    assert await money(venue, "USDT") == (Decimal(9100), 0)
    assert await venue.trades_since(0) == (trade,)
    assert await venue.trades_since(trade.sequence) == ()


async def test_limit_order_filled_at_a_better_open_gets_the_difference_back(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.submit(limit("a", BUY, "10", "90"))
    await venue.on_bar(bar(2, 85.0, opening=80.0))
    assert await money(venue, "USDT") == (Decimal(9200), 0)


async def test_resting_orders_share_a_bars_volume_best_price_first_then_oldest(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    for name, price in (("low", "90"), ("high", "91"), ("later", "91")):
        await venue.submit(limit(name, BUY, "2", price))
    trades = await venue.on_bar(bar(2, 95.0, opening=100.0, low=80.0, volume=50.0))
    assert [(trade.client_order_id, trade.fill.quantity) for trade in trades] == [
        ("high", Decimal(2)),
        ("later", Decimal(2)),
        ("low", Decimal(1)),
    ]
    (rest,) = await venue.open_orders()
    assert (rest.client_order_id, rest.state, await money(venue, "USDT")) == (
        "low",
        OrderState.PARTIALLY_FILLED,
        (10_000 - 4 * 91 - 2 * 90, Decimal(90)),
    )
    await venue.cancel("low", "BTC-USDT")
    assert await money(venue, "USDT") == (10_000 - 4 * 91 - 90, 0)


async def test_bar_that_opened_before_the_order_came_fills_it_by_its_close_only(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.on_bbo(bbo(HOUR_NS + 1800, (99.0, 1.0), (101.0, 1.0)))
    await venue.submit(limit("a", BUY, "1", "90"))
    assert await venue.on_bar(bar(2, 95.0, opening=100.0, low=80.0)) == ()
    assert len(await venue.on_bar(bar(3, 95.0, opening=95.0, low=80.0))) == 1


async def test_marketable_limit_order_takes_at_once_and_rests_with_the_rest(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0, volume=10.0))
    order = await venue.submit(limit("a", BUY, "3", "101"))
    assert (order.state, order.filled_quantity) == (OrderState.PARTIALLY_FILLED, Decimal(1))
    assert order.fills[0].price == Decimal("100.15")
    assert await money(venue, "USDT") == (10_000 - Decimal("100.15") - 202, Decimal(202))


@pytest.mark.parametrize(
    ("force", "state", "filled"),
    [(TimeInForce.IOC, OrderState.CANCELED, Decimal(1)), (TimeInForce.FOK, OrderState.CANCELED, Decimal(0))],
)
async def test_ioc_keeps_what_it_got_and_fok_gets_all_or_nothing(
    venue: PaperVenue, force: TimeInForce, state: OrderState, filled: Decimal
) -> None:
    await venue.on_bar(bar(1, 100.0, volume=10.0))
    order = await venue.submit(limit("a", BUY, "3", "101", force=force))
    assert (order.state, order.filled_quantity) == (state, filled)
    assert (await money(venue, "USDT"))[1] == 0
    whole = await venue.submit(market("b", SELL, quantity="1", force=TimeInForce.FOK))
    assert whole.state is (OrderState.CANCELED if filled else OrderState.FILLED)


async def test_newer_book_is_walked_level_by_level_and_its_levels_are_given_once(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.on_book(book(HOUR_NS + 1, ((99.0, 1.0),), ((101.0, 1.0), (102.004, 2.0))))
    order = await venue.submit(market("a", BUY, quantity="2"))
    assert [(fill.price, fill.quantity) for fill in order.fills] == [
        (Decimal(101), Decimal(1)),
        (Decimal("102.01"), Decimal(1)),
    ]
    again = await venue.submit(market("b", BUY, quantity="2"))
    assert (again.state, again.filled_quantity, again.reason) == (OrderState.CANCELED, Decimal(1), "unfilled")
    with pytest.raises(RejectedError, match="market_missing"):
        await venue.submit(market("c", BUY, quantity="2"))


async def test_book_seen_no_later_than_the_bar_is_not_the_market(venue: PaperVenue) -> None:
    await venue.on_bbo(bbo(HOUR_NS, (49.0, 1.0), (50.0, 1.0)))
    await venue.on_bar(bar(1, 100.0))
    assert (await venue.submit(market("a", BUY, quantity="1"))).fills[0].price == Decimal("100.15")


async def test_best_ask_at_a_resting_price_fills_it_once_at_its_price(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    await venue.submit(limit("a", BUY, "3", "90"))
    assert await venue.on_bbo(bbo(HOUR_NS + 1, (90.0, 1.0), (90.01, 9.0))) == ()
    through = bbo(HOUR_NS + 2, (88.0, 1.0), (89.0, 2.0))
    (trade,) = await venue.on_bbo(through)
    assert (trade.fill.price, trade.fill.quantity, trade.fill.liquidity) == (Decimal(90), Decimal(2), Liquidity.MAKER)
    assert await venue.on_bbo(through) == ()
    assert len(await venue.on_bbo(bbo(HOUR_NS + 3, (88.0, 1.0), (89.0, 2.0)))) == 1
    order = await venue.query("a", "BTC-USDT")
    assert isinstance(order, VenueOrder) and order.state is OrderState.FILLED


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0, float("inf")])
async def test_bar_with_an_impossible_price_is_refused(venue: PaperVenue, field: str, value: float) -> None:
    fields = {"opening" if field == "open" else field: value}
    close = fields.pop("close", 100.0)
    with pytest.raises(InputError, match=rf"BTC-USDT closing at .*: {field} must be a positive number"):
        await venue.on_bar(bar(1, close, **{"opening": 100.0, "high": 100.0, "low": 100.0} | fields))
    assert venue.market_time_ns("BTC-USDT") == 0


@pytest.mark.parametrize("bad", [bar(1, 100.0, volume=-1.0), bar(1, 100.0, volume=float("nan")), bar(1, 9.0, high=8.0)])
async def test_bar_with_impossible_volume_or_range_is_refused(venue: PaperVenue, bad: object) -> None:
    with pytest.raises(InputError, match=r"volume|between low"):
        await venue.on_bar(bad)


async def test_crossed_or_nan_book_is_refused(venue: PaperVenue) -> None:
    with pytest.raises(InputError, match="crossed"):
        await venue.on_bbo(bbo(1, (100.0, 1.0), (100.0, 1.0)))
    with pytest.raises(InputError, match="ask price"):
        await venue.on_bbo(bbo(1, (100.0, 1.0), (float("nan"), 1.0)))
    with pytest.raises(InputError, match="bid quantity"):
        await venue.on_book(book(1, ((100.0, -1.0),), ()))


async def test_market_data_of_an_undefined_instrument_is_refused(venue: PaperVenue) -> None:
    with pytest.raises(InputError, match="define it before"):
        await venue.on_bar(bar(1, 100.0, instrument="XYZ-USDT"))


async def test_market_time_is_the_newest_input_of_the_instrument_or_of_the_venue(venue: PaperVenue) -> None:
    assert venue.market_time_ns("BTC-USDT") == 0
    await venue.on_bar(bar(2, 100.0))
    await venue.on_bar(bar(1, 90.0))
    assert (venue.market_time_ns("BTC-USDT"), venue.market_time_ns("ETH-USDT")) == (2 * HOUR_NS, 0)
    await venue.on_bbo(bbo(2 * HOUR_NS + 5, (99.0, 1.0), (101.0, 1.0)))
    assert venue.market_time_ns("BTC-USDT") == 2 * HOUR_NS + 5
    await venue.on_bars_closed(closed(3, "BTC-USDT"))
    assert venue.market_time_ns("ETH-USDT") == 3 * HOUR_NS


async def test_deposit_is_credited_once(venue: PaperVenue) -> None:
    assert await venue.deposit("d1", {"ETH": Decimal("1.5")})
    assert not await venue.deposit("d1", {"ETH": Decimal("1.5")})
    assert Balance("ETH", Decimal("1.5"), Decimal(0)) in await venue.balances()
    with pytest.raises(IntegrityError):
        await venue.deposit("d1", {"ETH": Decimal(2)})
    with pytest.raises(InputError):
        await venue.deposit("d2", {"ETH": Decimal("NaN")})


async def test_redefinition_keeps_the_market(venue: PaperVenue) -> None:
    await venue.on_bar(bar(1, 100.0))
    finer = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.001"), Decimal("0.0001"), BTC.quantity_min, Decimal(1))
    await venue.define_instrument(finer)
    assert (await venue.submit(market("a", BUY, quote="2"))).state is OrderState.FILLED


async def test_fee_in_quote_is_part_of_what_an_order_may_spend(open_venue: Callable[..., PaperVenue]) -> None:
    fees = FeeSchedule(Decimal(0), Decimal("0.001"), FeeMode.QUOTE)
    venue = open_venue(model=FillModel(Decimal(0), Decimal(0), Decimal(1), fees))
    await venue.define_instrument(BTC)
    await venue.on_bar(bar(1, 99.0))
    with pytest.raises(RejectedError, match=r"needs 10010\.000 USDT, 10000 are free"):
        await venue.submit(limit("a", BUY, "100", "100"))
    against_bar = await venue.submit(market("b", BUY, quote="5000"))
    await venue.on_book(book(HOUR_NS + 1, (), ((100.0, 20.0), (101.0, 90.0))))
    against_book = await venue.submit(market("c", BUY, quote="5000"))
    for order in (against_bar, against_book):
        fee = sum(fill.fee for fill in order.fills)
        assert order.state is OrderState.FILLED
        assert 5000 - Decimal("0.02") < order.filled_quote + fee <= 5000
        assert {fill.fee_asset for fill in order.fills} == {"USDT"}
