"""Upside: sell a part of the asset that ran ahead, keep a share as USDT, spread the rest equally over the others."""

from decimal import Decimal

from services.rebalancer.core.legs import Frame, buy_leg, sell_leg, trend_skip
from services.rebalancer.core.model import CENT, MONEY, Leg, Skip, Trigger, money, percent, share


def sells(frame: Frame, trigger: Trigger) -> list[Leg | Skip]:
    """Return the sale of `sell_percentage` of the asset's quantity."""
    asset, config = trigger.asset, frame.config
    quantity = frame.portfolio.quantities[asset] * config.sell_percentage
    reason = (
        f"sell {share(config.sell_percentage)} of {asset}: {money(frame.worth.values[asset])} is "
        f"{percent(trigger.deviation)} against the mean {money(frame.worth.mean_usdt)}, "
        f"threshold {percent(config.upside_threshold)}"
    )
    return [trend_skip(frame, asset) or sell_leg(frame, asset, quantity, reason)]


def buys(frame: Frame, trigger: Trigger, proceeds: Decimal, cost: Decimal) -> tuple[list[Leg | Skip], list[str]]:
    """Return the purchases from net `proceeds`; `cost` is what selling has lost to fees and slippage, in USDT."""
    config = frame.config
    others = [asset for asset in frame.portfolio.assets if asset != trigger.asset]
    notes: list[str] = []
    wanted = proceeds * (1 - config.usdt_reserve)
    if wanted <= 0 or not others:
        return [], notes
    spendable = max(frame.portfolio.usdt + proceeds - frame.buffer_usdt, Decimal(0))
    budget = min(wanted, spendable)
    if budget < wanted - CENT:
        notes.append(
            f"buys cut from {money(wanted)} to {money(budget)}: the USDT buffer of {money(frame.buffer_usdt)} "
            "is filled first"
        )
    each = MONEY.divide(budget, Decimal(len(others)))
    lost = cost + frame.loss_of_buying(budget)
    legs = [
        buy_leg(
            frame,
            asset,
            each,
            frame.room(asset, lost),
            f"buy {asset} with 1/{len(others)} of {money(budget)}, the proceeds of {trigger.asset} "
            f"less {share(config.usdt_reserve)} kept as USDT",
        )
        for asset in others
    ]
    return legs, notes
