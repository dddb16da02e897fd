"""Which markets there are by default, and what becomes of any other symbol."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox_exchange.markets.profiles import DEFAULT_SYMBOLS, default_markets, profile_of
from shared.errors import InputError

WANTED = {
    "RIVERUSDT", "HUSDT", "PENGUUSDT", "TAOUSDT", "HANAUSDT", "AIAUSDT", "XANUSDT", "BTCUSDT", "ETHUSDT", "IOTABTC",
}  # fmt: skip


def test_default_list_holds_what_people_ask_for() -> None:
    assert set(DEFAULT_SYMBOLS) >= WANTED
    assert tuple(market.symbol for market in default_markets()) == DEFAULT_SYMBOLS


@pytest.mark.parametrize("symbol", [*DEFAULT_SYMBOLS, "NEWCOINUSDT", "ADABTC", "DOGE-ETH"])
def test_grid_suits_the_price(symbol: str) -> None:
    profile = profile_of(symbol)
    instrument = profile.market.instrument
    assert profile.price % instrument.tick_size == 0
    assert Decimal(10) ** 2 <= profile.price / instrument.tick_size <= Decimal(10) ** 8
    # The smallest order is not more than a hundredth of a usual one.
    assert instrument.step_size * profile.price <= Decimal(profile.flow.depth_notional) / 100
    assert float(instrument.notional_min) < profile.flow.take_notional


def test_unknown_symbol_is_derived_from_the_seed_alone() -> None:
    assert profile_of("NEWCOINUSDT", seed=4) == profile_of("NEWCOIN-USDT", seed=4)
    assert profile_of("NEWCOINUSDT", seed=4).price != profile_of("NEWCOINUSDT", seed=5).price
    assert profile_of("NEWCOINUSDT").price != profile_of("OTHERUSDT").price


@given(price=st.floats(1e-9, 1e6), seed=st.integers(0, 10))
def test_given_price_gives_a_grid_of_five_digits(price: float, seed: int) -> None:
    instrument = profile_of("BTCUSDT", seed=seed, price=price).market.instrument
    assert 9_000 <= price / float(instrument.tick_size) <= 110_000


def test_text_that_is_no_market_is_refused() -> None:
    with pytest.raises(InputError, match="is no market"):
        default_markets(["hello"])
