"""Names and orders of a plan: the same plan, stage and leg give the same id in every process, after a crash too."""

import hashlib
from decimal import Decimal

from services.rebalancer.core.events import Params
from services.rebalancer.core.model import Leg, Trigger
from shared.domain.instruments import ceil_to_grid, floor_to_grid
from shared.messages import Instrument, OrderIntent, OrderType, Side, TimeInForce

NANOSECONDS_PER_SECOND = 1_000_000_000


def plan_id(params: Params, trigger: Trigger, opened_at_ns: int) -> str:
    """Return 16 hex digits naming the plan that `trigger` opened at this market time."""
    return _digest(params.config.strategy, params.venue, trigger.direction, trigger.asset, str(opened_at_ns))[:16]


def intent_id(strategy: str, plan: str, stage: str, leg: int) -> str:
    """Return 24 hex digits naming one leg of one stage of one plan."""
    return _digest(strategy, plan, stage, str(leg))[:24]


def intents_for(
    legs: tuple[Leg, ...], plan: str, stage: str, params: Params, closes: dict[str, Decimal], *, at_ns: int, now_ns: int
) -> tuple[OrderIntent, ...]:
    """Return the stage's market orders: sells by quantity, buys by what they may spend, both bounded by the collar.

    `at_ns` is the close time that the stage was decided on, `now_ns` starts the intents' lifetime.
    """
    config = params.config
    expires_at_ns = max(now_ns, at_ns) + config.intent_lifetime_s * NANOSECONDS_PER_SECOND
    return tuple(
        OrderIntent(
            intent_id=intent_id(config.strategy, plan, stage, number),
            strategy=config.strategy,
            venue=params.venue,
            instrument=leg.asset,
            side=leg.side,
            type=OrderType.MARKET,
            quantity=leg.quantity if leg.side is Side.SELL else None,
            quote_amount=leg.notional_usdt if leg.side is Side.BUY else None,
            limit_price=None,
            price_bound=price_bound(closes[leg.asset], leg.side, config.price_collar, params.instruments[leg.asset]),
            time_in_force=TimeInForce.IOC,
            decided_at_ns=at_ns,
            expires_at_ns=expires_at_ns,
            reason=leg.reason,
            correlation_id=plan,
        )
        for number, leg in enumerate(legs)
    )


def price_bound(close: Decimal, side: Side, collar: Decimal, instrument: Instrument) -> Decimal:
    """Return the worst acceptable price, on the tick grid and never beyond the collar, yet never better than the close.

    Where a tick is wider than the collar the bound is the close itself, put onto the grid against us.
    """
    tick = instrument.tick_size
    if side is Side.SELL:
        bound = min(ceil_to_grid(close * (1 - collar), tick), floor_to_grid(close, tick))
        return max(bound, tick)
    return max(floor_to_grid(close * (1 + collar), tick), ceil_to_grid(close, tick))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
