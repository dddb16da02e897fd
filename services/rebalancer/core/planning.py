"""From a portfolio to a plan: the rules of the cascade in one place.

An asset fires when value / mean − 1 is strictly beyond its own threshold and it is not cooling down. Over the position
limit goes first (largest first), then the farthest |deviation| / threshold; ties keep the basket's order. One plan.
What the rules leave open, and how it is decided here, stands in `deploy/decisions/0002-cascade-rules.md`.
"""

from collections.abc import Mapping
from decimal import Decimal, localcontext

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import allocation, downside, limit, retarget, upside
from services.rebalancer.core.legs import Frame, part
from services.rebalancer.core.model import (
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
    value,
)
from services.rebalancer.core.past import Past
from services.rebalancer.core.trigger import Breach, describe_cooling, describe_deviation, describe_quiet, find_breaches
from shared.domain.instruments import Instrument

_NO_INSTRUMENTS: Mapping[str, Instrument] = {}


def plan_for(
    portfolio: Portfolio, config: RebalanceConfig, instruments: Mapping[str, Instrument] = _NO_INSTRUMENTS
) -> Plan:
    """Return what the rules would do with this portfolio, and why, also when that is nothing.

    Buys are sized by what the sells should bring at these prices less `fee_rate`. Quantities are floored to the grids
    of `instruments`, as far as these are given. The plan may have a trigger and no leg: then all legs were too small.
    With a trigger other than the cascade's it goes to the portfolio's `targets`; when it has none yet, to those that
    need no past.
    """
    if not config.is_cascade:
        if not portfolio.targets:
            portfolio, obstacle = retarget.aimed(portfolio, config, Past())
            if obstacle:
                return Plan(None, None, (), (), (), (obstacle,))
        return retarget.plan_to_target(portfolio, config, instruments)
    with localcontext(EXACT):
        wrong = problems(portfolio)
        if wrong:
            return Plan(None, None, (), (), (), wrong)
        frame = Frame(portfolio, value(portfolio), config, instruments)
        if allocation.is_start(frame):
            plan = _start(frame)
            if plan.buys or frame.worth.assets_usdt == 0:
                return plan
        breaches = find_breaches(portfolio, frame.worth, config)
        if not breaches:
            return Plan(None, None, (), (), (), describe_quiet(portfolio, frame.worth, config))
        return _plan(frame, breaches)


def buys_for(
    portfolio: Portfolio,
    config: RebalanceConfig,
    instruments: Mapping[str, Instrument],
    trigger: Trigger,
    *,
    proceeds: Decimal,
    sold: Mapping[str, Decimal],
) -> tuple[tuple[Leg, ...], tuple[Skip, ...], tuple[str, ...]]:
    """Return a plan's purchases for what its sales really brought.

    `portfolio` is the one that the plan was made from, `proceeds` the USDT received net of fees, `sold` the quantity
    sold of each asset. Returns legs, skipped legs and notes.
    """
    with localcontext(EXACT):
        frame = Frame(portfolio, value(portfolio), config, instruments)
        gross = sum((quantity * portfolio.prices[asset] for asset, quantity in sold.items()), Decimal(0))
        return _buys(frame, trigger, proceeds, max(gross - proceeds, Decimal(0)))


def _start(frame: Frame) -> Plan:
    legs, notes = allocation.buys(frame)
    bought, skipped = part(legs)
    if bought:
        notes = [f"initial allocation: the basket holds nothing, {money(frame.portfolio.usdt)} are free", *notes]
    return Plan(None, Direction.ALLOCATE if bought else None, (), bought, skipped, tuple(notes))


def _plan(frame: Frame, breaches: list[Breach]) -> Plan:
    trigger = breaches[0].trigger
    sold, skipped_sells = part(_sells(frame, trigger))
    gross = sum((leg.notional_usdt for leg in sold), Decimal(0))
    cost = gross * frame.config.fee_rate
    bought, skipped_buys, notes = _buys(frame, trigger, MONEY.plus(gross - cost), cost)
    fired = f"{trigger.direction}: {describe_deviation(frame.worth, trigger.asset, frame.config)}"
    waiting = [
        f"also beyond: {describe_deviation(frame.worth, breach.trigger.asset, frame.config)} "
        f"({breach.trigger.direction}), after this plan"
        for breach in breaches[1:]
    ]
    cooling = describe_cooling(frame.portfolio, frame.worth, frame.config)
    skipped = skipped_sells + skipped_buys
    return Plan(
        trigger,
        trigger.direction,
        sold,
        bought,
        skipped,
        (fired, *notes, *(skip.reason for skip in skipped), *waiting, *cooling),
    )


def _sells(frame: Frame, trigger: Trigger) -> list[Leg | Skip]:
    match trigger.direction:
        case Direction.UPSIDE:
            return upside.sells(frame, trigger)
        case Direction.DOWNSIDE:
            return downside.sells(frame, trigger)
        case Direction.POSITION_LIMIT:
            return limit.sells(frame, trigger)
        case Direction.ALLOCATE:
            return []
        case Direction.REBALANCE:
            return retarget.sells(frame)


def _buys(
    frame: Frame, trigger: Trigger, proceeds: Decimal, cost: Decimal
) -> tuple[tuple[Leg, ...], tuple[Skip, ...], tuple[str, ...]]:
    match trigger.direction:
        case Direction.UPSIDE:
            legs, notes = upside.buys(frame, trigger, proceeds, cost)
        case Direction.DOWNSIDE:
            legs, notes = downside.buys(frame, trigger, proceeds, cost)
        case Direction.POSITION_LIMIT:
            legs, notes = [], ["the proceeds stay USDT"]
        case Direction.ALLOCATE:
            legs, notes = allocation.buys(frame)
        case Direction.REBALANCE:
            legs, notes = retarget.buys(frame, proceeds, cost)
    bought, skipped = part(legs)
    return bought, skipped, tuple(notes)
