"""Downside: buy the asset that fell behind back to the mean, from USDT above the buffer first, then from outperformers.

Only what is missing is sold: what the purchase needs beyond USDT above the buffer (an unfilled buffer is missing too),
grossed up by the fee, from the assets above the mean pro rata to their excess. No asset gives more than
`outperformer_sell_limit` of itself nor more than its excess; what such a cap cuts off is not put upon the others.
When the purchase would be skipped, nothing is sold for it.
"""

from decimal import Decimal

from services.rebalancer.core.legs import Frame, buy_leg, sell_leg, trend_skip
from services.rebalancer.core.model import CENT, MONEY, Leg, Skip, Trigger, money, percent, share


def sells(frame: Frame, trigger: Trigger) -> list[Leg | Skip]:
    """Return the sales that the purchase needs; empty when USDT above the buffer is enough."""
    target = _target(frame, trigger)
    spendable = frame.portfolio.usdt - frame.buffer_usdt
    missing = target - spendable
    if missing <= 0 or target < frame.smallest(trigger.asset):
        return []
    fee_rate = frame.config.fee_rate
    gross = MONEY.divide(missing, 1 - fee_rate)
    excess = _excess(frame)
    excess_sum = sum(excess.values(), Decimal(0))
    legs = [
        _sell_part(frame, trigger, asset, MONEY.divide(gross * excess[asset], excess_sum), missing) for asset in excess
    ]
    net = sum((leg.notional_usdt for leg in legs if isinstance(leg, Leg)), Decimal(0)) * (1 - fee_rate)
    bought = min(spendable + net, target)
    if bought < frame.smallest(trigger.asset):
        return [
            Skip(
                leg.asset,
                f"sell of {leg.asset} skipped: with it only {money(max(bought, Decimal(0)))} could be put into "
                f"{trigger.asset}, under the minimum order of {money(frame.smallest(trigger.asset))}",
            )
            if isinstance(leg, Leg)
            else leg
            for leg in legs
        ]
    return legs


def buys(frame: Frame, trigger: Trigger, proceeds: Decimal, cost: Decimal) -> tuple[list[Leg | Skip], list[str]]:
    """Return the purchase: back to the mean, as far as USDT above the buffer and net `proceeds` go."""
    asset = trigger.asset
    gap = _gap(frame, asset)
    spendable = max(frame.portfolio.usdt + proceeds - frame.buffer_usdt, Decimal(0))
    amount = min(gap, spendable)
    notes: list[str] = []
    if amount < gap - CENT:
        notes.append(
            f"{asset} lacks {money(gap)} to the mean, {money(amount)} can be spent: "
            f"{money(frame.portfolio.usdt)} + {money(proceeds)} proceeds - buffer {money(frame.buffer_usdt)}"
        )
    reason = (
        f"buy {asset} back to the mean {money(frame.worth.mean_usdt)}: {money(frame.worth.values[asset])} is "
        f"{percent(trigger.deviation)}, threshold {percent(-frame.config.downside_threshold)}"
    )
    room = frame.room(asset, cost + frame.loss_of_buying(amount))
    return [buy_leg(frame, asset, amount, room, reason)], notes


def _gap(frame: Frame, asset: str) -> Decimal:
    return max(frame.worth.mean_usdt - frame.worth.values[asset], Decimal(0))


def _target(frame: Frame, trigger: Trigger) -> Decimal:
    # Selling for the whole gap and buying it bounds what the portfolio can lose on the way.
    gap = _gap(frame, trigger.asset)
    selling = MONEY.divide(frame.config.fee_rate * gap, 1 - frame.config.fee_rate)
    room = frame.room(trigger.asset, selling + frame.loss_of_buying(gap))
    return gap if room is None else min(gap, room)


def _excess(frame: Frame) -> dict[str, Decimal]:
    values, mean = frame.worth.values, frame.worth.mean_usdt
    return {asset: values[asset] - mean for asset in frame.portfolio.assets if frame.worth.distance(asset) > 0}


def _sell_part(frame: Frame, trigger: Trigger, asset: str, wanted: Decimal, missing: Decimal) -> Leg | Skip:
    worth, limit = frame.worth.values[asset], frame.config.outperformer_sell_limit
    excess = worth - frame.worth.mean_usdt
    amount = min(wanted, excess, worth * limit)
    quantity = min(MONEY.divide(amount, frame.portfolio.prices[asset]), frame.portfolio.quantities[asset] * limit)
    capped = f", at most {share(limit)} of it" if amount == worth * limit else ""
    reason = (
        f"sell {money(amount)} of {asset}{capped}: it is {money(excess)} above the mean, "
        f"{trigger.asset} lacks {money(missing)} beyond USDT above the buffer"
    )
    return trend_skip(frame, asset) or sell_leg(frame, asset, quantity, reason)
