"""The cascade's decisions: pure, exact, no I/O, no clock, no randomness, no logging.

`plan_for(portfolio, config)` says what the rules would do. `decide(state, event, params, now_ns)` carries a plan from
its first sale to its last fill and survives being killed between any two events. `replay_record` proves an entry of
the decision journal.
"""

from services.rebalancer.core.events import (
    AccountSeen,
    BarsArrived,
    Decision,
    Holdings,
    IntentRefused,
    MachineEvent,
    OrderChanged,
    Params,
    PauseRequested,
    RebalanceRequested,
    Resumed,
)
from services.rebalancer.core.machine import decide, settled
from services.rebalancer.core.model import Direction, Leg, Plan, Portfolio, Skip, Trigger
from services.rebalancer.core.past import Past
from services.rebalancer.core.planning import buys_for, plan_for
from services.rebalancer.core.preview import Preview, PreviewRow, preview, without_excluded
from services.rebalancer.core.record import Inputs, Outcome, record_of, replay_record
from services.rebalancer.core.report import Report
from services.rebalancer.core.state import RebalancerState, RunningPlan, Stage, decode_state, encode_state
from services.rebalancer.core.status import Status, status_of

__all__ = [
    "AccountSeen",
    "BarsArrived",
    "Decision",
    "Direction",
    "Holdings",
    "Inputs",
    "IntentRefused",
    "Leg",
    "MachineEvent",
    "OrderChanged",
    "Outcome",
    "Params",
    "Past",
    "PauseRequested",
    "Plan",
    "Portfolio",
    "Preview",
    "PreviewRow",
    "RebalanceRequested",
    "RebalancerState",
    "Report",
    "Resumed",
    "RunningPlan",
    "Skip",
    "Stage",
    "Status",
    "Trigger",
    "buys_for",
    "decide",
    "decode_state",
    "encode_state",
    "plan_for",
    "preview",
    "record_of",
    "replay_record",
    "settled",
    "status_of",
    "without_excluded",
]
