"""Whether a rebalance to target is due: drift beyond a band, a date, or both.

In: each asset's drift, the time since the last rebalance. Out: a trigger, or why there is none.
Never: a trigger inside every band (except on a date), one within the cooldown.
"""

from decimal import Decimal

import msgspec

from services.rebalancer.core.allocation import is_start
from services.rebalancer.core.drift import Drift
from services.rebalancer.core.legs import Frame
from services.rebalancer.core.model import MONEY, NANOSECONDS_PER_MINUTE, Direction, Trigger, share
from services.rebalancer.core.trigger import is_over_limit
from services.rebalancer.modes import TriggerMode

NANOSECONDS_PER_HOUR = 60 * NANOSECONDS_PER_MINUTE


class Due(msgspec.Struct, frozen=True):
    """Answer: the trigger or None, why, and whether a date was used up by looking."""

    trigger: Trigger | None
    note: str
    checked: bool = False


def due(frame: Frame, rows: tuple[Drift, ...]) -> Due:
    """Return whether to rebalance now. An empty basket and an asset over the position limit are always due."""
    ago = frame.portfolio.rebalanced_ago_ns
    config = frame.config
    if ago is not None and ago < config.cooldown_minutes * NANOSECONDS_PER_MINUTE:
        minutes = MONEY.divide(ago, Decimal(NANOSECONDS_PER_MINUTE))
        return Due(None, f"cooling down: the last rebalance is {minutes:.1f} of {config.cooldown_minutes} minutes ago")
    if is_start(frame):
        return Due(_trigger(None), "start: the basket holds nothing that could be traded")
    over = [row for row in rows if not row.is_locked and is_over_limit(frame.worth, row.asset, config)]
    if over:
        row = max(over, key=lambda each: each.weight)
        return Due(_trigger(row), f"{describe(row)}: over the position limit of {share(config.position_limit)}")
    if config.trigger in (TriggerMode.CALENDAR, TriggerMode.HYBRID):
        wait_ns = config.calendar_hours * NANOSECONDS_PER_HOUR
        if ago is not None and ago < wait_ns:
            hours = MONEY.divide(wait_ns - ago, Decimal(NANOSECONDS_PER_HOUR))
            return Due(None, f"not due: {hours:.1f} of {config.calendar_hours} hours are left; {farthest(rows)}")
        if config.trigger is TriggerMode.CALENDAR:
            return Due(_trigger(None), f"due by the calendar, every {config.calendar_hours} hours; {farthest(rows)}")
    outside = [row for row in rows if row.is_outside]
    if not outside:
        return Due(None, f"inside every band; {farthest(rows)}", checked=config.trigger is TriggerMode.HYBRID)
    # By how many bands; equal distances keep the basket's order.
    row = max(outside, key=_urgency)
    return Due(_trigger(row), f"{describe(row)}, {len(outside)} of {len(rows)} outside their bands")


def describe(row: Drift) -> str:
    """Return `H 31.2 % of target 25.0 % (+6.2 points, band 5.0)`."""
    band = "" if row.band is None else f", band {row.band * 100:.1f}"
    return f"{row.asset} {share(row.weight)} of target {share(row.target)} ({row.drift * 100:+.1f} points{band})"


def farthest(rows: tuple[Drift, ...]) -> str:
    """Return a sentence on the asset that is farthest from its target."""
    return f"farthest: {describe(max(rows, key=_urgency))}"


def _urgency(row: Drift) -> Decimal:
    return MONEY.divide(abs(row.drift), row.band) if row.band else abs(row.drift)


def _trigger(row: Drift | None) -> Trigger:
    if row is None:
        return Trigger("", Direction.REBALANCE, Decimal(0))
    relative = row.relative
    return Trigger(row.asset, Direction.REBALANCE, row.drift if relative is None else relative)
