"""What is refused and rounded before an order goes over the wire."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RejectedError
from shared.exchange.live.filters import (
    MarketRules,
    WireKind,
    at_bound,
    floor_quantity,
    inward_price,
    is_within,
    prepare,
    wire_text,
)
from shared.exchange.port import OrderRequest
from shared.messages import Instrument, OrderType, Side, TimeInForce

D = Decimal
GRID = Instrument("A-USDT", "A", "USDT", D("0.01"), D("0.1"), D("0.2"), D(5))
RULES = MarketRules(
    GRID, quote_step=D("0.001"), quantity_max=D(1000), market_quantity_max=D(500), notional_max=D(50_000),
    price_min=D("0.05"), price_max=D(10_000),
)  # fmt: skip
amounts = st.decimals("0.0001", "20000", places=6)
sides = st.sampled_from(list(Side))


def order(**fields: object) -> OrderRequest:
    wanted: dict[str, object] = {"client_order_id": "a", "instrument": "A-USDT", "side": Side.BUY}
    wanted["type"] = OrderType.LIMIT if fields.get("limit_price") is not None else OrderType.MARKET
    return OrderRequest(**{**wanted, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"quantity": D("1.05"), "limit_price": D(10)}, "precision"),
        ({"quantity": D(1), "limit_price": D("10.001")}, "precision"),
        ({"quantity": D("0.1"), "limit_price": D(100)}, "quantity_min"),
        ({"quantity": D("0.5"), "limit_price": D("9.99")}, "notional_min"),
        ({"quantity": D("1000.1"), "limit_price": D(10)}, "quantity_max"),
        ({"quantity": D("500.1")}, "quantity_max"),
        ({"quantity": D(1000), "limit_price": D("50.01")}, "notional_max"),
        ({"quantity": D(1), "limit_price": D("10000.01")}, "price_band"),
        ({"quantity": D(900), "limit_price": D("0.04")}, "price_band"),
        ({"quote_amount": D("4.999")}, "notional_min"),
        ({"quote_amount": D("0.0004")}, "notional_min"),
        ({"quote_amount": D(5), "time_in_force": TimeInForce.FOK}, "request_malformed"),
        ({"quantity": D(1), "time_in_force": TimeInForce.FOK}, "request_malformed"),
        ({"quantity": D(1), "time_in_force": TimeInForce.POST_ONLY}, "request_malformed"),
        ({"quantity": D("NaN"), "limit_price": D(10)}, "request_malformed"),
        ({"quantity": D(-1), "limit_price": D(10)}, "request_malformed"),
        ({"quantity": D(1), "quote_amount": D(10)}, "request_malformed"),
        ({"quantity": D(1), "price_bound": D("0.001")}, "price_band"),
    ],
)
def test_order_that_the_venue_refuses_is_refused_here(fields: dict[str, object], code: str) -> None:
    with pytest.raises(RejectedError) as refused:
        prepare(order(**fields), RULES)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": D("0.5"), "limit_price": D(10)}, {"quantity": D(1000), "limit_price": D(50)}, {"quantity": D(500)},
        {"quantity": D("0.2"), "limit_price": D(25)}, {"quote_amount": D(5)},
    ],
)  # fmt: skip
def test_order_exactly_at_a_limit_passes(fields: dict[str, object]) -> None:
    prepare(order(**fields), RULES)


@pytest.mark.parametrize(
    ("rules", "fields", "code"),
    [
        ({"is_trading": False}, {"quantity": D(1)}, "market_closed"),
        ({"sides": frozenset({Side.SELL})}, {"quantity": D(1)}, "market_closed"),
        ({"takes_market_orders": False}, {"quantity": D(1)}, "request_malformed"),
        ({"quote_amount_sides": frozenset({Side.SELL})}, {"quote_amount": D(10)}, "request_malformed"),
        ({"market_quantity_min": D(2)}, {"quantity": D(1)}, "quantity_min"),
        ({"market_notional_max": D(9)}, {"quote_amount": D(10)}, "notional_max"),
    ],
)
def test_market_refuses_what_it_does_not_take(rules: dict[str, object], fields: dict[str, object], code: str) -> None:
    with pytest.raises(RejectedError) as refused:
        prepare(order(**fields), msgspec.structs.replace(RULES, **rules))
    assert refused.value.code == code


def test_market_order_with_a_bound_becomes_a_limit_order_that_cannot_rest() -> None:
    sent = prepare(order(quantity=D(1), price_bound=D("10.019")), RULES)
    assert (sent.kind, sent.price, sent.time_in_force) == (WireKind.LIMIT, D("10.01"), TimeInForce.IOC)
    sent = prepare(order(side=Side.SELL, quantity=D(1), price_bound=D("10.011")), RULES)
    assert (sent.kind, sent.price, sent.time_in_force) == (WireKind.LIMIT, D("10.02"), TimeInForce.IOC)
    whole = prepare(order(quantity=D(1), price_bound=D(10), time_in_force=TimeInForce.FOK), RULES)
    assert whole.time_in_force is TimeInForce.FOK


def test_post_only_order_is_the_kind_that_must_not_take() -> None:
    sent = prepare(order(quantity=D(1), limit_price=D(10), time_in_force=TimeInForce.POST_ONLY), RULES)
    assert (sent.kind, sent.time_in_force) == (WireKind.LIMIT_MAKER, None)


@settings(deadline=None)
@given(quote=amounts, bound=amounts)
def test_buy_at_its_bound_never_spends_more_than_was_asked(quote: D, bound: D) -> None:
    try:
        sent = at_bound(order(quote_amount=quote, price_bound=bound), RULES)
    except RejectedError:
        return
    assert sent.price is not None and sent.quantity is not None
    assert sent.price <= bound and sent.price * sent.quantity <= quote
    assert sent.quantity % GRID.step_size == 0 and sent.price % GRID.tick_size == 0
    assert quote - sent.price * sent.quantity < sent.price * GRID.step_size


@settings(deadline=None)
@given(price=amounts, side=sides)
def test_price_is_rounded_so_that_nothing_becomes_worse(price: D, side: Side) -> None:
    rounded = inward_price(price, side, GRID)
    assert rounded <= price if side is Side.BUY else rounded >= price
    assert abs(rounded - price) < GRID.tick_size and rounded % GRID.tick_size == 0


@settings(deadline=None)
@given(amounts)
def test_quantity_is_rounded_down_by_less_than_a_step(quantity: D) -> None:
    rounded = floor_quantity(quantity, GRID)
    assert 0 <= quantity - rounded < GRID.step_size and rounded % GRID.step_size == 0


@settings(deadline=None)
@given(quote=st.decimals("5", "1000", places=5))
def test_quote_amount_is_rounded_down(quote: D) -> None:
    sent = prepare(order(quote_amount=quote), RULES)
    assert sent.quote_amount is not None and 0 <= quote - sent.quote_amount < RULES.quote_step


@settings(deadline=None)
@given(
    quote=st.decimals("1", "1000", places=2), bound=st.decimals("1", "20", places=2), side=sides,
    quantities=st.lists(st.decimals("0.1", "50", places=1), max_size=8),
)  # fmt: skip
def test_book_holds_an_amount_within_the_bound_exactly_when_a_walk_says_so(
    quote: D, bound: D, side: Side, quantities: list[D]
) -> None:
    step = 1 if side is Side.BUY else -1
    levels = [(D(10) + step * number, quantity) for number, quantity in enumerate(quantities)]
    request = order(side=side, quote_amount=quote, price_bound=bound)
    rest = quote
    for price, quantity in levels:
        if (price > bound if side is Side.BUY else price < bound) or rest <= 0:
            break
        rest -= price * quantity
    assert is_within(request, levels) == (rest <= 0)


@settings(deadline=None)
@given(st.decimals("1e-12", "1e12", allow_nan=False))
def test_number_on_the_wire_is_plain_and_exact(value: D) -> None:
    text = wire_text(value)
    assert D(text) == value
    assert "e" not in text.lower() and not (("." in text) and text.endswith(("0", ".")))
