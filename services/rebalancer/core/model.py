"""The nouns of a plan: portfolio in, plan out, and the arithmetic that both share.

Sums, products and comparisons are exact (`EXACT` never has to round numbers within `is_plausible`); a quotient is
rounded down to 40 digits, so that no amount is ever rounded up.
"""

from decimal import ROUND_DOWN, Context, Decimal
from enum import StrEnum

import msgspec

from shared.messages.base import Side

EXACT = Context(prec=2_000)
MONEY = Context(prec=40, rounding=ROUND_DOWN)
_SHOWN = Context(prec=20)
NANOSECONDS_PER_MINUTE = 60_000_000_000
QUOTE_GRID = Decimal("0.00000001")
CENT = Decimal("0.01")

_MAGNITUDE_MAX = 40
_DIGITS_MAX = 100


class Direction(StrEnum):
    """Name why a plan exists."""

    UPSIDE = "upside"
    DOWNSIDE = "downside"
    POSITION_LIMIT = "position_limit"
    ALLOCATE = "allocate"
    REBALANCE = "rebalance"


class Portfolio(msgspec.Struct, frozen=True):
    """State what is held, in basket order: prices in USDT, quantities in base units.

    `elapsed_ns` is the time since an asset last fired; an absent asset never fired. A price that is absent or is no
    positive number makes every plan impossible. `targets` are shares of the whole portfolio by asset, as far as they
    are known; in a plan to target they are where it goes. `trending` assets run up strongly. `rebalanced_ago_ns` is
    the time since the last rebalance to target (None: never).
    """

    assets: tuple[str, ...]
    prices: dict[str, Decimal]
    quantities: dict[str, Decimal]
    usdt: Decimal
    elapsed_ns: dict[str, Decimal] = {}
    targets: dict[str, Decimal] = {}
    trending: tuple[str, ...] = ()
    rebalanced_ago_ns: Decimal | None = None


class Trigger(msgspec.Struct, frozen=True):
    """Name the asset that fired; `deviation` = value / mean value − 1, whatever the direction."""

    asset: str
    direction: Direction
    deviation: Decimal


class Leg(msgspec.Struct, frozen=True):
    """Describe one order of a plan. A sell is given by quantity, a buy by what it may spend (`notional_usdt`)."""

    asset: str
    side: Side
    quantity: Decimal
    notional_usdt: Decimal
    reason: str


class Skip(msgspec.Struct, frozen=True):
    """Say which leg was left out and why; its money stays USDT."""

    asset: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """Hold what the rules would do now. `trigger` is None when nothing fired and for the initial allocation.

    `goals` are the shares of the portfolio that a plan to target goes to. `checked` says that a calendar's date was
    used up though nothing was to be done.
    """

    trigger: Trigger | None
    action: Direction | None
    sells: tuple[Leg, ...]
    buys: tuple[Leg, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[str, ...]
    goals: dict[str, Decimal] = {}
    checked: bool = False

    @property
    def legs(self) -> tuple[Leg, ...]:
        """Return all legs in the order in which they are sent: sells first."""
        return self.sells + self.buys


class Valuation(msgspec.Struct, frozen=True):
    """Hold a portfolio's values in USDT: of each asset, of the assets together, and with USDT."""

    values: dict[str, Decimal]
    assets_usdt: Decimal
    total_usdt: Decimal
    mean_usdt: Decimal

    def deviation(self, asset: str) -> Decimal:
        """Return value / mean − 1, to 20 digits (comparisons use `distance`, which is exact)."""
        return _SHOWN.divide(self.distance(asset), self.assets_usdt)

    def distance(self, asset: str) -> Decimal:
        """Return count x value − sum: the deviation times the sum, exactly."""
        return self.values[asset] * len(self.values) - self.assets_usdt


def value(portfolio: Portfolio) -> Valuation:
    """Return what everything is worth; call it inside the `EXACT` context, with a checked portfolio."""
    values = {asset: portfolio.prices[asset] * portfolio.quantities[asset] for asset in portfolio.assets}
    assets_usdt = sum(values.values(), Decimal(0))
    mean = MONEY.divide(assets_usdt, Decimal(len(values)))
    return Valuation(values, assets_usdt, assets_usdt + portfolio.usdt, mean)


def is_plausible(number: Decimal) -> bool:
    """Tell whether the number is finite and of a size that exact arithmetic can carry."""
    if not number.is_finite():
        return False
    return number == 0 or (abs(number.adjusted()) <= _MAGNITUDE_MAX and len(number.as_tuple().digits) <= _DIGITS_MAX)


def problems(portfolio: Portfolio) -> tuple[str, ...]:
    """Return, naming asset and fix, why no plan may be made from this portfolio; empty when it may."""
    found = [] if portfolio.assets else ["the basket is empty: name its assets"]
    for asset in portfolio.assets:
        price = portfolio.prices.get(asset)
        if price is None:
            found.append(f"price of {asset} is missing: no plan until the feed reports it")
        elif not is_plausible(price) or price <= 0:
            found.append(f"price of {asset} is {price}, not a positive number: no plan until the feed reports one")
        quantity = portfolio.quantities.get(asset)
        if quantity is None:
            found.append(f"quantity of {asset} is missing: no plan until the account reports it")
        elif not is_plausible(quantity) or quantity < 0:
            found.append(f"quantity of {asset} is {quantity}, not a number from 0 up: no plan until it is corrected")
    if not is_plausible(portfolio.usdt) or portfolio.usdt < 0:
        found.append(f"usdt is {portfolio.usdt}, not a number from 0 up: no plan until the account reports it")
    return tuple(found)


def percent(fraction: Decimal) -> str:
    """Return a signed percentage for a sentence."""
    return f"{fraction * 100:+.1f} %"


def share(fraction: Decimal) -> str:
    """Return an unsigned percentage for a sentence."""
    return f"{fraction * 100:.1f} %"


def money(amount: Decimal) -> str:
    """Return an amount of USDT for a sentence."""
    return f"{amount:.2f} USDT"
