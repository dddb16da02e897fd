"""The decision journal's proof: a record holds its inputs, and the core, given them, yields its outcome again."""

import msgspec

from services.rebalancer.core.events import Decision, MachineEvent, Params
from services.rebalancer.core.machine import decide
from services.rebalancer.core.state import RebalancerState
from shared.messages import DecisionRecord

SERVICE = "rebalancer"


class Inputs(msgspec.Struct, frozen=True):
    """Hold everything that a decision depends on."""

    state: RebalancerState
    event: MachineEvent
    params: Params
    now_ns: int


class Outcome(msgspec.Struct, frozen=True):
    """Hold everything that a decision yields."""

    state: RebalancerState
    decision: Decision


def record_of(inputs: Inputs, outcome: Outcome) -> DecisionRecord | None:
    """Return the journal entry, or None when the decision has nothing to journal."""
    decision, config = outcome.decision, inputs.params.config
    if decision.decision_id is None:
        return None
    return DecisionRecord(
        decision_id=decision.decision_id,
        service=SERVICE,
        strategy=config.strategy,
        venue=inputs.params.venue,
        action=decision.action,
        decided_at_ns=outcome.state.last_close_ns,
        correlation_id=decision.plan_id or decision.decision_id,
        inputs=_json(inputs),
        outcome=_json(outcome),
        notes=decision.notes,
    )


def replay_record(record: DecisionRecord) -> str:
    """Return the outcome that the core yields for the record's inputs; it must equal the record's own."""
    inputs = msgspec.json.decode(record.inputs, type=Inputs)
    return _json(Outcome(*decide(inputs.state, inputs.event, inputs.params, inputs.now_ns)))


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value).decode()
