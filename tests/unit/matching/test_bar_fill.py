"""Known answers and properties of fills against bars."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.matching import FeeMode, FeeSchedule, FillModel
from shared.matching.bar_fill import fill_market, fill_resting, taker_price, touch_price, volume_available
from shared.messages import Instrument, Liquidity, Side

MARKET = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal(0), Decimal(0))
MODEL = FillModel(Decimal(5), Decimal(10), Decimal("0.1"), FeeSchedule(Decimal("0.0002"), Decimal("0.001")))
BUY, SELL = Side.BUY, Side.SELL


def test_market_orders_pay_spread_and_slippage_rounded_to_the_tick_against_us() -> None:
    assert taker_price(MARKET, BUY, Decimal("33.33"), MODEL) == Decimal("33.38")  # 33.379995
    assert taker_price(MARKET, SELL, Decimal("33.33"), MODEL) == Decimal("33.28")  # 33.280005
    assert touch_price(MARKET, BUY, Decimal(100), MODEL) == Decimal("100.05")


def test_buy_by_quote_floors_the_quantity_and_charges_the_fee_on_what_it_gets() -> None:
    fill = fill_market(MARKET, BUY, MODEL, close=Decimal(100), available=Decimal(1000), quote_amount=Decimal(50))
    assert (fill.price, fill.quantity, fill.quote) == (Decimal("100.15"), Decimal("0.499"), Decimal("49.97485"))
    assert (fill.fee, fill.fee_asset, fill.liquidity) == (Decimal("0.000499"), "BTC", Liquidity.TAKER)
    assert fill.unfilled_quantity == 0


def test_sell_pays_its_fee_from_the_proceeds() -> None:
    fill = fill_market(MARKET, SELL, MODEL, close=Decimal(100), available=Decimal(1000), quantity=Decimal(2))
    assert (fill.price, fill.fee, fill.fee_asset) == (Decimal("99.85"), Decimal("0.1997"), "USDT")


def test_volume_cap_fills_in_part_and_a_bar_without_volume_not_at_all() -> None:
    available = volume_available(MARKET, Decimal("12.3456"), MODEL)
    assert available == Decimal("1.234")
    fill = fill_market(MARKET, BUY, MODEL, close=Decimal(100), available=available, quantity=Decimal(2))
    assert (fill.quantity, fill.unfilled_quantity) == (Decimal("1.234"), Decimal("0.766"))
    assert volume_available(MARKET, Decimal("12.3456"), MODEL, Decimal("1.234")) == 0
    # Nothing traded, so nothing of it could have been ours.
    none = volume_available(MARKET, Decimal(0), MODEL)
    assert none == 0
    assert volume_available(MARKET, Decimal(0), MODEL, Decimal("1.234")) == 0
    empty = fill_market(MARKET, BUY, MODEL, close=Decimal(100), available=none, quantity=Decimal(2))
    assert (empty.quantity, empty.fee, empty.unfilled_quantity) == (0, 0, Decimal(2))


def test_limit_caps_the_price_and_an_unreachable_limit_fills_nothing() -> None:
    at_limit = fill_market(
        MARKET, BUY, MODEL, close=Decimal(100), available=Decimal(9), quantity=Decimal(1), limit_price=Decimal("100.1")
    )
    assert (at_limit.price, at_limit.quantity) == (Decimal("100.10"), Decimal(1))
    beyond = fill_market(
        MARKET, BUY, MODEL, close=Decimal(100), available=Decimal(9), quantity=Decimal(1), limit_price=Decimal("100.04")
    )
    assert (beyond.quantity, beyond.unfilled_quantity) == (0, Decimal(1))
    sell = fill_market(
        MARKET,
        SELL,
        MODEL,
        close=Decimal(100),
        available=Decimal(9),
        quantity=Decimal(1),
        limit_price=Decimal("99.9051"),
    )
    assert sell.price == Decimal("99.91")


def test_sell_below_one_tick_does_not_fill() -> None:
    fill = fill_market(MARKET, SELL, MODEL, close=Decimal("0.01"), available=Decimal(9), quantity=Decimal(1))
    assert (fill.price, fill.quantity) == (0, 0)


@pytest.mark.parametrize(
    ("side", "limit", "bar", "price"),
    [
        (BUY, "95", ("100", "101", "94"), "95"),  # traded through
        (BUY, "95", ("100", "101", "95"), "95"),  # touched
        (BUY, "95", ("93.001", "101", "90"), "93.01"),  # opened through: the open, rounded up
        (BUY, "95", ("100", "101", "95.01"), None),
        (SELL, "105", ("100", "106", "99"), "105"),
        (SELL, "105", ("107.009", "110", "99"), "107.00"),
        (SELL, "105", ("100", "104.99", "99"), None),
    ],
)
def test_resting_order_fills_at_its_price_or_at_a_better_open(
    side: Side, limit: str, bar: tuple[str, str, str], price: str | None
) -> None:
    opening, high, low = bar
    fill = fill_resting(
        MARKET,
        side,
        MODEL,
        limit_price=Decimal(limit),
        quantity=Decimal(1),
        bar_open=Decimal(opening),
        high=Decimal(high),
        low=Decimal(low),
        available=Decimal("0.7"),
    )
    assert fill.quantity == (0 if price is None else Decimal("0.7"))
    assert fill.liquidity is Liquidity.MAKER
    if price is not None:
        assert fill.price == Decimal(price)


def test_touch_alone_does_not_fill_when_the_model_wants_a_trade_through() -> None:
    strict = FillModel(Decimal(5), Decimal(10), Decimal("0.1"), MODEL.fees, limit_needs_trade_through=True)
    for low, filled in (("95", Decimal(0)), ("94.99", Decimal(1))):
        fill = fill_resting(
            MARKET,
            BUY,
            strict,
            limit_price=Decimal(95),
            quantity=Decimal(1),
            bar_open=Decimal(99),
            high=Decimal(99),
            low=Decimal(low),
            available=Decimal(9),
        )
        assert fill.quantity == filled


def exact_grid(draw: st.DrawFn, low: int, high: int) -> Decimal:
    return Decimal(draw(st.integers(1, 9))).scaleb(draw(st.integers(low, high)))


@st.composite
def markets(draw: st.DrawFn) -> Instrument:
    return Instrument("A-Q", "A", "Q", exact_grid(draw, -10, 1), exact_grid(draw, -8, 2), Decimal(0), Decimal(0))


models = st.builds(
    FillModel,
    half_spread_bps=st.decimals(0, 500, places=3),
    slippage_bps=st.decimals(0, 500, places=3),
    volume_share_max=st.decimals("0.001", 1, places=4),
    fees=st.builds(
        FeeSchedule,
        maker_rate=st.decimals(0, "0.05", places=6),
        taker_rate=st.decimals(0, "0.05", places=6),
        mode=st.sampled_from([FeeMode.GET, FeeMode.QUOTE, FeeMode.BASE]),
    ),
)
closes = st.floats(1e-9, 1e9).map(lambda price: Decimal(repr(price)))
amounts = st.decimals("0.0001", "1e12", places=8)
volumes = st.floats(0, 1e15).map(lambda volume: Decimal(repr(volume)))


@given(markets(), models, st.sampled_from(list(Side)), st.tuples(closes, volumes), amounts)
@settings(max_examples=400, deadline=None)
def test_fill_never_favours_us_never_overspends_and_lies_on_the_grid(
    market: Instrument, model: FillModel, side: Side, bar: tuple[Decimal, Decimal], amount: Decimal
) -> None:
    close, volume = bar
    available = volume_available(market, volume, model)
    fill = fill_market(market, side, model, close=close, available=available, quote_amount=amount)
    assert Fraction(available) <= Fraction(volume) * Fraction(model.volume_share_max)
    assert Fraction(fill.price) % Fraction(market.tick_size) == 0
    assert Fraction(fill.quantity) % Fraction(market.step_size) == 0
    moved = (Fraction(model.half_spread_bps) + Fraction(model.slippage_bps)) / 10_000
    if side is BUY:
        assert 0 <= Fraction(fill.price) - Fraction(close) * (1 + moved) < Fraction(market.tick_size)
    else:
        assert 0 <= Fraction(close) * (1 - moved) - Fraction(fill.price) < Fraction(market.tick_size)
    spent = Fraction(fill.price) * Fraction(fill.quantity)
    if side is BUY and fill.fee_asset == market.quote:
        spent += Fraction(fill.fee)
    assert spent <= Fraction(amount)
    traded = Fraction(fill.quantity) * (Fraction(fill.price) if fill.fee_asset == market.quote else 1)
    assert Fraction(fill.fee) == traded * Fraction(model.fees.taker_rate)
    assert fill.quantity <= available
    if fill.quantity < available and fill.price and not fill.unfilled_quantity:
        rate = Fraction(model.fees.taker_rate) if side is BUY and model.fees.mode is FeeMode.QUOTE else 0
        one_more = (Fraction(fill.quantity) + Fraction(market.step_size)) * Fraction(fill.price) * (1 + rate)
        assert one_more > Fraction(amount), "a further step would have been affordable"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"half_spread_bps": Decimal(-1)}, "half_spread_bps"),
        ({"slippage_bps": Decimal("NaN")}, "slippage_bps"),
        ({"half_spread_bps": Decimal(5000), "slippage_bps": Decimal(5000)}, "below 10000"),
        ({"volume_share_max": Decimal(0)}, "volume_share_max"),
        ({"volume_share_max": Decimal("1.1")}, "volume_share_max"),
        ({"fees": FeeSchedule(mode=FeeMode.THIRD, third_asset="BNB")}, "fees.mode"),
    ],
)
def test_fill_model_names_the_bad_parameter(changes: dict[str, Decimal], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FillModel(**changes)
