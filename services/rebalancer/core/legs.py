"""One leg: put an amount onto the instrument's grid and leave it out when it is too small.

In: a wanted quantity or amount and its reason. Out: a leg, or the sentence why there is none.
Never: a sale of more than is held, a purchase that spends more than it was given.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.model import MONEY, QUOTE_GRID, Leg, Portfolio, Skip, Valuation, money, share
from shared.domain.instruments import Instrument, ceil_to_grid, floor_to_grid
from shared.messages.base import Side


class Frame(msgspec.Struct, frozen=True):
    """Bundle what every rule looks at: the portfolio, its values, the rules and the grids (none: no rounding)."""

    portfolio: Portfolio
    worth: Valuation
    config: RebalanceConfig
    instruments: Mapping[str, Instrument]

    @property
    def buffer_usdt(self) -> Decimal:
        """Return the USDT that no buy may touch."""
        return self.config.usdt_buffer * self.worth.total_usdt

    def smallest(self, asset: str) -> Decimal:
        """Return the least notional that a leg of this asset may have, in USDT."""
        instrument = self.instruments.get(asset)
        if instrument is None:
            return self.config.min_order_value
        return max(self.config.min_order_value, instrument.notional_min)

    def loss_of_buying(self, amount: Decimal) -> Decimal:
        """Return what spending `amount` may cost the portfolio: the fee, and as much again for slippage."""
        return 2 * self.config.fee_rate * amount

    def room(self, asset: str, lost_usdt: Decimal) -> Decimal | None:
        """Return what may still be bought under the position limit once `lost_usdt` is gone; None: no limit."""
        if self.config.position_limit == 1:
            return None
        limit = self.config.position_limit * (self.worth.total_usdt - lost_usdt)
        return max(limit - self.worth.values[asset], Decimal(0))


def sell_leg(frame: Frame, asset: str, quantity: Decimal, reason: str, *, round_up: bool = False) -> Leg | Skip:
    """Return a sale of at most `quantity` and at most what is held, or why it is left out.

    `round_up` sells one step more rather than less: back to a limit means not above it.
    """
    held = frame.portfolio.quantities[asset]
    quantity = min(quantity, held)
    instrument = frame.instruments.get(asset)
    if instrument is not None:
        up = ceil_to_grid(quantity, instrument.step_size)
        down = floor_to_grid(quantity, instrument.step_size)
        quantity = up if round_up and up <= held else down
    notional = quantity * frame.portfolio.prices[asset]
    return _large_enough(frame, Leg(asset, Side.SELL, quantity, MONEY.plus(notional), reason))


def buy_leg(frame: Frame, asset: str, amount: Decimal, room: Decimal | None, reason: str) -> Leg | Skip:
    """Return a purchase that spends at most `amount` and stays within `room`, or why it is left out."""
    cut = ""
    if room is not None and room < amount:
        cut = f", cut from {money(amount)} by the position limit of {share(frame.config.position_limit)}"
        amount, reason = room, reason + cut
    instrument = frame.instruments.get(asset)
    if instrument is not None:
        amount = floor_to_grid(amount, QUOTE_GRID)
    quantity = MONEY.divide(amount, frame.portfolio.prices[asset])
    if instrument is not None:
        quantity = floor_to_grid(quantity, instrument.step_size)
    return _large_enough(frame, Leg(asset, Side.BUY, quantity, MONEY.plus(amount), reason), cut)


def trend_skip(frame: Frame, asset: str) -> Skip | None:
    """Return why a winner in a strong trend is not sold; None when the filter does not speak of it."""
    if asset not in frame.portfolio.trending:
        return None
    config = frame.config
    return Skip(
        asset,
        f"sell of {asset} skipped: it is in a strong upward trend (efficiency of {config.trend_bars} bars at least "
        f"{config.trend_efficiency}), and trend_filter lets winners run",
    )


def part(legs: list[Leg | Skip]) -> tuple[tuple[Leg, ...], tuple[Skip, ...]]:
    """Separate legs from what was left out."""
    return (
        tuple(leg for leg in legs if isinstance(leg, Leg)),
        tuple(leg for leg in legs if isinstance(leg, Skip)),
    )


def _large_enough(frame: Frame, leg: Leg, cut: str = "") -> Leg | Skip:
    asset, smallest = leg.asset, frame.smallest(leg.asset)
    if leg.notional_usdt < smallest:
        kept = "its money stays USDT" if leg.side is Side.BUY else "nothing of it is sold"
        why = f"{money(leg.notional_usdt)} is under the minimum order of {money(smallest)}{cut}; {kept}"
        return Skip(asset, f"{leg.side} of {asset} skipped: {why}")
    instrument = frame.instruments.get(asset)
    least = instrument.quantity_min if instrument is not None else Decimal(0)
    if leg.quantity <= 0 or leg.quantity < least:
        why = f"quantity {leg.quantity:f} is under the venue's {least:f}"
        return Skip(asset, f"{leg.side} of {asset} skipped: {why}")
    return leg
