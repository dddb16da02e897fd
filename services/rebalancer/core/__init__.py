"""The cascade's decisions: pure, exact, no I/O, no clock, no randomness, no logging.

`plan_for(portfolio, config)` says what the rules would do; `decide(state, event, params, now_ns)` carries a plan from
its first sale to its last fill and survives being killed between any two events; `replay_record` proves a journal entry.
"""

from services.rebalancer.core.model import Direction, Leg, Plan, Portfolio, Skip, Trigger
from services.rebalancer.core.planning import buys_for, plan_for

__all__ = [
    "Direction",
    "Leg",
    "Plan",
    "Portfolio",
    "Skip",
    "Trigger",
    "buys_for",
    "plan_for",
]
