"""What a rebalance to target would do now: one row an asset, orders with their estimated cost, weights afterwards.

In: a portfolio, settings, the past. Out: a `Preview`. Never: an order sent, a state changed.
"""

from collections.abc import Mapping
from decimal import Context, Decimal, localcontext

import msgspec
from msgspec.structs import replace

from services.rebalancer.config import RebalanceConfig, is_named
from services.rebalancer.core import retarget
from services.rebalancer.core.drift import drifts_of
from services.rebalancer.core.legs import Frame
from services.rebalancer.core.model import EXACT, Leg, Plan, Portfolio, problems, value
from services.rebalancer.core.past import Past
from services.rebalancer.core.planning import plan_for
from services.rebalancer.core.targets import targets_for
from shared.domain.instruments import Instrument
from shared.messages.base import Side

FORCED = "asked by hand"
_SHOWN = Context(prec=16)


class PreviewRow(msgspec.Struct, frozen=True):
    """Show one asset. Weights, drift and band are shares of the portfolio, `drift_relative` is of the target.

    `amount_usdt` is what the order sells or may spend, `cost_usdt` its fee and slippage as estimated; `why` says why
    nothing is done where something might be.
    """

    asset: str
    quantity: Decimal
    price: Decimal
    value_usdt: Decimal
    weight: Decimal
    target: Decimal
    drift: Decimal
    drift_relative: Decimal | None
    band: Decimal | None
    action: str
    amount_usdt: Decimal
    cost_usdt: Decimal
    weight_after: Decimal
    why: str


class Preview(msgspec.Struct, frozen=True):
    """Show a whole rebalance. `problems` say why there is none to show; `alone` is what the rules do by themselves."""

    rows: tuple[PreviewRow, ...]
    source: str
    total_usdt: Decimal
    usdt: Decimal
    usdt_weight: Decimal
    usdt_target: Decimal
    usdt_weight_after: Decimal
    turnover_usdt: Decimal
    cost_usdt: Decimal
    notes: tuple[str, ...]
    alone: str
    alone_notes: tuple[str, ...]
    problems: tuple[str, ...] = ()


def preview(
    portfolio: Portfolio,
    config: RebalanceConfig,
    instruments: Mapping[str, Instrument],
    past: Past,
    *,
    slippage: Decimal | None = None,
) -> Preview:
    """Return what `rebalance now` would do with this portfolio at these prices.

    `slippage` is the expected loss of an order against the price, as a share; without it the fee rate stands for it,
    as in the room that plans keep.
    """
    loss = config.fee_rate if slippage is None else slippage
    with localcontext(EXACT):
        wrong = problems(portfolio)
        if not wrong:
            portfolio, obstacle = retarget.aimed(portfolio, config, past)
            wrong = (obstacle,) if obstacle else ()
        if not wrong and value(portfolio).total_usdt <= 0:
            wrong = ("the portfolio is worth nothing: deposit USDT",)
        if wrong:
            return _nothing(portfolio, wrong)
        frame = Frame(portfolio, value(portfolio), config, instruments)
        plan = retarget.plan_to_target(portfolio, config, instruments, forced=FORCED)
        alone = plan_for(portfolio, config, instruments)
        source = targets_for(config, portfolio.assets, past).source
        return _shown(frame, plan, alone, source, loss)


def without_excluded(portfolio: Portfolio, config: RebalanceConfig) -> Portfolio:
    """Return the portfolio without the assets that the settings exclude."""
    kept = tuple(asset for asset in portfolio.assets if not is_named(config.excluded_assets, asset))
    return replace(portfolio, assets=kept)


def _shown(frame: Frame, plan: Plan, alone: Plan, source: str, loss: Decimal) -> Preview:
    config, portfolio = frame.config, frame.portfolio
    legs = {leg.asset: leg for leg in plan.legs}
    whys = {skip.asset: skip.reason for skip in plan.skipped}
    costs = {asset: leg.notional_usdt * (config.fee_rate + loss) for asset, leg in legs.items()}
    after = {asset: frame.worth.values[asset] + _gain(legs.get(asset), config, loss) for asset in portfolio.assets}
    usdt_after = portfolio.usdt + sum((_cash(leg, config, loss) for leg in plan.legs), Decimal(0))
    total_after = sum(after.values(), Decimal(0)) + usdt_after
    rows = []
    for row in drifts_of(frame, portfolio.targets):
        asset, leg = row.asset, legs.get(row.asset)
        rows.append(
            PreviewRow(
                asset=asset,
                quantity=portfolio.quantities[asset],
                price=portfolio.prices[asset],
                value_usdt=_plain(row.value_usdt),
                weight=_plain(row.weight),
                target=_plain(row.target),
                drift=_plain(row.drift),
                drift_relative=None if row.relative is None else _plain(row.relative),
                band=None if row.band is None else _plain(row.band),
                action="none" if leg is None else leg.side.value,
                amount_usdt=_plain(Decimal(0) if leg is None else leg.notional_usdt),
                cost_usdt=_plain(costs.get(asset, Decimal(0))),
                weight_after=_SHOWN.divide(after[asset], total_after),
                why="locked: never traded" if row.is_locked else whys.get(asset, ""),
            )
        )
    total = frame.worth.total_usdt
    return Preview(
        rows=tuple(rows),
        source=source,
        total_usdt=_plain(total),
        usdt=portfolio.usdt,
        usdt_weight=_SHOWN.divide(portfolio.usdt, total),
        usdt_target=_plain(1 - sum((row.target for row in rows), Decimal(0))),
        usdt_weight_after=_SHOWN.divide(usdt_after, total_after),
        turnover_usdt=_plain(sum((leg.notional_usdt for leg in plan.legs), Decimal(0))),
        cost_usdt=_plain(sum(costs.values(), Decimal(0))),
        notes=tuple(note for note in plan.notes if note not in whys.values() and FORCED not in note),
        alone=_headline(alone),
        alone_notes=alone.notes,
    )


def _gain(leg: Leg | None, config: RebalanceConfig, loss: Decimal) -> Decimal:
    if leg is None:
        return Decimal(0)
    return -leg.notional_usdt if leg.side is Side.SELL else leg.notional_usdt * (1 - config.fee_rate - loss)


def _cash(leg: Leg, config: RebalanceConfig, loss: Decimal) -> Decimal:
    return leg.notional_usdt * (1 - config.fee_rate - loss) if leg.side is Side.SELL else -leg.notional_usdt


def _headline(plan: Plan) -> str:
    if not plan.legs:
        return "nothing"
    if plan.trigger is None:
        return "initial allocation"
    return f"{plan.trigger.direction} {plan.trigger.asset}".strip()


def _plain(amount: Decimal) -> Decimal:
    return _SHOWN.plus(amount)


def _nothing(portfolio: Portfolio, wrong: tuple[str, ...]) -> Preview:
    zero = Decimal(0)
    return Preview((), "", zero, portfolio.usdt, zero, zero, zero, zero, zero, (), "nothing", (), wrong)
