"""Start: from USDT alone into the basket, equal parts, the reserve kept.

The basket is empty when all of it together is worth less than one order (dust does not count as a start).
"""

from decimal import Decimal

from services.rebalancer.core.legs import Frame, buy_leg
from services.rebalancer.core.model import MONEY, Leg, Skip, money, share


def is_start(frame: Frame) -> bool:
    """Tell whether the basket holds nothing that could be traded."""
    return frame.worth.assets_usdt == 0 or frame.worth.assets_usdt < frame.config.min_order_value


def buys(frame: Frame) -> tuple[list[Leg | Skip], list[str]]:
    """Return equal purchases from what exceeds the reserve (or the buffer, if that is more)."""
    config, total = frame.config, frame.worth.total_usdt
    kept_share = max(config.usdt_reserve, config.usdt_buffer)
    budget = frame.portfolio.usdt - kept_share * total
    count = len(frame.portfolio.assets)
    if budget <= 0:
        return [], [f"initial allocation needs USDT above {share(kept_share)} of {money(total)}: deposit USDT"]
    each = MONEY.divide(budget, Decimal(count))
    lost = frame.loss_of_buying(budget)
    reason = f"initial allocation: 1/{count} of {money(budget)}, {share(kept_share)} of {money(total)} stays USDT"
    legs = [buy_leg(frame, asset, each, frame.room(asset, lost), reason) for asset in frame.portfolio.assets]
    return legs, []
