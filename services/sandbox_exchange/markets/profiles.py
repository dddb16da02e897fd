"""Which markets a sandbox lists when nobody says otherwise, and what each of them is like.

In: symbols in the venue's spelling, a seed. Out: markets with plausible grids, and the shape of their background.
Never: a symbol without a grid: one that is not listed here gets a market derived from the seed and its name.
"""

import hashlib
import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.flow import FlowShape
from services.sandbox_exchange.core.flow_synthetic import PriceShape
from services.sandbox_exchange.core.model import Market
from shared.domain.instruments import split_symbol
from shared.messages import Instrument

NOTIONAL_MIN = {"BTC": "0.00005", "ETH": "0.001", "BNB": "0.005"}
NOTIONAL_MIN_USD = "1"
# What a quote asset is worth in dollars, for sizes of the background only.
DOLLARS = {"BTC": 77_000.0, "ETH": 2_400.0, "BNB": 620.0}


class MarketProfile(msgspec.Struct, frozen=True):
    """Describe a market, the price it begins at, and its background."""

    market: Market
    price: Decimal
    flow: FlowShape
    path: PriceShape


class _Known(msgspec.Struct, frozen=True):
    price: str
    tick: str
    step: str
    volatility: float
    spread_bps: float
    depth: float


_KNOWN = {
    "BTCUSDT": _Known("77133.37", "0.01", "0.00001", 0.025, 0.6, 9_000),
    "ETHUSDT": _Known("2407.62", "0.01", "0.0001", 0.035, 0.8, 6_000),
    "SOLUSDT": _Known("88.36", "0.01", "0.001", 0.045, 2.0, 3_000),
    "XRPUSDT": _Known("1.4700", "0.0001", "0.01", 0.045, 2.0, 3_000),
    "BNBUSDT": _Known("621.40", "0.01", "0.001", 0.03, 1.5, 3_000),
    "TAOUSDT": _Known("253.90", "0.01", "0.001", 0.06, 4.0, 1_500),
    "PENGUUSDT": _Known("0.007761", "0.000001", "0.01", 0.07, 5.0, 900),
    "IOTAUSDT": _Known("0.05946", "0.00001", "0.01", 0.055, 5.0, 500),
    "HUSDT": _Known("0.13262", "0.00001", "0.01", 0.09, 10.0, 500),
    "RIVERUSDT": _Known("7.5948", "0.0001", "0.01", 0.11, 15.0, 500),
    "HANAUSDT": _Known("0.044505", "0.000001", "0.01", 0.1, 25.0, 300),
    "AIAUSDT": _Known("0.10603", "0.00001", "0.01", 0.1, 20.0, 300),
    "XANUSDT": _Known("0.010557", "0.000001", "0.01", 0.09, 20.0, 300),
    "IOTABTC": _Known("0.000000771", "0.000000001", "0.1", 0.05, 25.0, 400),
}
DEFAULT_SYMBOLS = tuple(_KNOWN)


def default_markets(symbols: Sequence[str] = (), *, seed: int = 1) -> tuple[Market, ...]:
    """Return the markets of `symbols` (any usual spelling), or of the default list when it is empty.

    Raises InputError for a text that is no market.
    """
    return tuple(profile_of(symbol, seed=seed).market for symbol in symbols or DEFAULT_SYMBOLS)


def profile_of(symbol: str, *, seed: int = 1, price: float | None = None) -> MarketProfile:
    """Return a market's profile; one that is not known here is derived from the seed and its name.

    With `price` even a known market's grid is derived, from that price: history may lie far from today.

    Raises InputError for a text that is no market.
    """
    base, quote = split_symbol(symbol)
    known = _KNOWN.get(base + quote)
    if known is None or price is not None:
        known = _derived(base, quote, seed, price)
    market = Market(symbol=base + quote, instrument=_instrument(base, quote, known))
    dollars = DOLLARS.get(quote, 1.0)
    flow = FlowShape(
        spread_bps=known.spread_bps,
        spacing_bps=max(0.6 * known.spread_bps, 70.0 * known.volatility),
        depth_notional=known.depth / dollars,
        take_notional=0.25 * known.depth / dollars,
    )
    path = PriceShape(volatility_daily=known.volatility, jumps_daily=3.0, jump_size=0.3 * known.volatility)
    return MarketProfile(market, Decimal(known.price), flow, path)


def _instrument(base: str, quote: str, known: _Known) -> Instrument:
    step = Decimal(known.step)
    return Instrument(
        symbol=f"{base}-{quote}",
        base=base,
        quote=quote,
        tick_size=Decimal(known.tick),
        step_size=step,
        quantity_min=step,
        notional_min=Decimal(NOTIONAL_MIN.get(quote, NOTIONAL_MIN_USD)),
    )


def _derived(base: str, quote: str, seed: int, price: float | None) -> _Known:
    digest = hashlib.sha256(f"{seed}/{base}{quote}".encode()).digest()
    chances = [int.from_bytes(digest[at : at + 4], "big") / 2**32 for at in (0, 4, 8)]
    price = price or 10.0 ** (-2.5 + 4.5 * chances[0]) / DOLLARS.get(quote, 1.0)
    magnitude = math.floor(math.log10(price))
    # Five significant digits of the price; a step worth about a tenth of a cent.
    tick = Decimal(1).scaleb(magnitude - 4)
    step = Decimal(1).scaleb(min(2, -3 - math.floor(math.log10(price * DOLLARS.get(quote, 1.0)))))
    volatility = 0.04 + 0.08 * chances[1]
    exact = Decimal(repr(price)).quantize(tick)
    return _Known(f"{exact:f}", f"{tick:f}", f"{step:f}", volatility, 4.0 + 20.0 * chances[2], 500.0)
