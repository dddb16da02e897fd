"""Rebalance to target weights: only the differences are traded, sells first, buys scaled to what they really bring.

In: a portfolio whose `targets` say where to go. Out: legs, and why others are left out.
Never: a trade in a locked asset; a sale of a strong trend's winner when the filter is on; a purchase from the reserve.
"""

from collections.abc import Mapping
from decimal import Decimal, localcontext

from msgspec.structs import replace

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import schedule
from services.rebalancer.core.drift import drifts_of, goals_for, is_locked
from services.rebalancer.core.legs import Frame, buy_leg, part, sell_leg, trend_skip
from services.rebalancer.core.model import (
    CENT,
    EXACT,
    MONEY,
    Direction,
    Leg,
    Plan,
    Portfolio,
    Skip,
    Trigger,
    money,
    problems,
    share,
    value,
)
from services.rebalancer.core.past import Past, trending
from services.rebalancer.core.targets import targets_for
from shared.domain.instruments import Instrument


def aimed(portfolio: Portfolio, config: RebalanceConfig, past: Past) -> tuple[Portfolio, str]:
    """Return the portfolio with its target weights and trends, and why there are no targets ("": there are)."""
    found = targets_for(config, portfolio.assets, past) if portfolio.assets else None
    weights = {} if found is None else found.weights
    obstacle = "" if found is None else found.obstacle or ("" if weights else f"{found.source}: no target weights")
    return replace(portfolio, targets=weights, trending=trending(past, config)), obstacle


def plan_to_target(
    portfolio: Portfolio, config: RebalanceConfig, instruments: Mapping[str, Instrument], *, forced: str = ""
) -> Plan:
    """Return the plan to the portfolio's `targets` if one is due, and why.

    `forced` is a person's reason to go to target whatever bands, dates and the cooldown say.
    """
    with localcontext(EXACT):
        wrong = problems(portfolio)
        if wrong:
            return Plan(None, None, (), (), (), wrong)
        frame = Frame(portfolio, value(portfolio), config, instruments)
        if frame.worth.total_usdt <= 0:
            return Plan(None, None, (), (), (), ("the portfolio is worth nothing: deposit USDT",))
        rows = drifts_of(frame, portfolio.targets)
        if forced:
            fires = schedule.Due(Trigger("", Direction.REBALANCE, Decimal(0)), forced)
        else:
            fires = schedule.due(frame, rows)
        if fires.trigger is None:
            return Plan(None, None, (), (), (), (fires.note,), checked=fires.checked)
        goals = {row.asset: row.target for row in rows} if forced else goals_for(rows, config)
        frame = replace(frame, portfolio=replace(portfolio, targets=goals))
        return _plan(frame, fires.trigger, fires.note)


def sells(frame: Frame) -> list[Leg | Skip]:
    """Return the sales of what is above its goal."""
    legs: list[Leg | Skip] = []
    for asset in frame.portfolio.assets:
        over = -_missing(frame, asset)
        if over <= 0 or is_locked(frame.config, asset):
            continue
        goal = frame.portfolio.targets[asset]
        quantity = MONEY.divide(over, frame.portfolio.prices[asset])
        if goal == 0:
            quantity = frame.portfolio.quantities[asset]
        reason = f"sell {money(over)} of {asset}: {_place(frame, asset)}"
        legs.append(trend_skip(frame, asset) or sell_leg(frame, asset, quantity, reason))
    return legs


def buys(frame: Frame, proceeds: Decimal, cost: Decimal) -> tuple[list[Leg | Skip], list[str]]:
    """Return the purchases of what is below its goal; all are cut alike when the money above the reserve is short."""
    wanted = {
        asset: _missing(frame, asset)
        for asset in frame.portfolio.assets
        if _missing(frame, asset) > 0 and not is_locked(frame.config, asset)
    }
    total = sum(wanted.values(), Decimal(0))
    kept = frame.config.reserve * frame.worth.total_usdt
    budget = min(max(frame.portfolio.usdt + proceeds - kept, Decimal(0)), total)
    notes: list[str] = []
    if budget < total - CENT:
        notes.append(f"buys cut from {money(total)} to {money(budget)}: a reserve of {money(kept)} stays USDT")
    if budget <= 0:
        return [], notes
    lost = cost + frame.loss_of_buying(budget)
    legs = [
        buy_leg(
            frame,
            asset,
            MONEY.divide(amount * budget, total),
            frame.room(asset, lost),
            f"buy {asset}: {_place(frame, asset)}",
        )
        for asset, amount in wanted.items()
    ]
    return legs, notes


def _plan(frame: Frame, trigger: Trigger, why: str) -> Plan:
    sold, skipped_sells = part(sells(frame))
    gross = sum((leg.notional_usdt for leg in sold), Decimal(0))
    cost = gross * frame.config.fee_rate
    legs, notes = buys(frame, MONEY.plus(gross - cost), cost)
    bought, skipped_buys = part(legs)
    skipped = skipped_sells + skipped_buys
    return Plan(
        trigger,
        trigger.direction,
        sold,
        bought,
        skipped,
        (f"rebalance: {why}", *notes, *(skip.reason for skip in skipped)),
        goals=frame.portfolio.targets,
        checked=True,
    )


def _missing(frame: Frame, asset: str) -> Decimal:
    return frame.portfolio.targets[asset] * frame.worth.total_usdt - frame.worth.values[asset]


def _place(frame: Frame, asset: str) -> str:
    weight = MONEY.divide(frame.worth.values[asset], frame.worth.total_usdt)
    return f"{share(weight)} of {money(frame.worth.total_usdt)}, goal {share(frame.portfolio.targets[asset])}"
