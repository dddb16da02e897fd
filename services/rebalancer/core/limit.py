"""Position limit: sell an asset that drifted over its share back to the limit; the proceeds stay USDT."""

from decimal import Decimal

from services.rebalancer.core.legs import Frame, sell_leg
from services.rebalancer.core.model import MONEY, Leg, Skip, Trigger, money, share


def sells(frame: Frame, trigger: Trigger) -> list[Leg | Skip]:
    """Return the sale after which the asset is exactly at the limit, the fee counted; rounded up by a step."""
    asset, config = trigger.asset, frame.config
    limit = config.position_limit
    excess = frame.worth.values[asset] - limit * frame.worth.total_usdt
    # The fee shrinks the portfolio too: (value - x) = limit * (total - fee * x), solved for x.
    amount = MONEY.divide(excess, 1 - limit * config.fee_rate)
    quantity = MONEY.divide(amount, frame.portfolio.prices[asset])
    weight = MONEY.divide(frame.worth.values[asset], frame.worth.total_usdt)
    reason = (
        f"sell {asset} back to the position limit: {money(frame.worth.values[asset])} is {share(weight)} of "
        f"{money(frame.worth.total_usdt)}, limit {share(limit)}"
    )
    return [sell_leg(frame, asset, quantity + _nudge(quantity), reason, round_up=True)]


def _nudge(quantity: Decimal) -> Decimal:
    # Quotients are rounded down to 40 digits; one unit in the last place puts the sale on the safe side of the limit.
    return Decimal((0, (1,), quantity.adjusted() - 38)) if quantity else Decimal(0)
