"""A refusal in the decision journal: everything it was based on, so that anybody can judge again and get the same."""

import msgspec

from services.risk.core.checks import Approval, judge
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal
from services.risk.core.view import View
from shared.messages import DecisionRecord, OrderIntent

INPUTS_LENGTH_MAX = 200_000


class Inputs(msgspec.Struct, frozen=True):
    """Bundle what `judge` takes."""

    intent: OrderIntent
    view: View
    limits: Limits


def record_of(intent: OrderIntent, strategy: str, view: View, limits: Limits, refusal: Refusal) -> DecisionRecord:
    """Return the journal's entry for a refusal; inputs beyond any honest size are left out, and a note says so."""
    inputs = msgspec.json.encode(Inputs(intent, view, limits)).decode()
    notes = [refusal.detail, *(f"{name} = {value}" for name, value in refusal.numbers)]
    if len(inputs) > INPUTS_LENGTH_MAX:
        inputs, notes = "{}", [*notes, f"the inputs are left out: {len(inputs)} characters"]
    return DecisionRecord(
        decision_id=f"risk-{intent.intent_id[:128]}",
        service="risk",
        strategy=strategy,
        venue=intent.venue,
        action="refuse",
        decided_at_ns=view.now_ns,
        correlation_id=intent.correlation_id[:4_096],
        inputs=inputs,
        outcome=msgspec.json.encode(refusal).decode(),
        notes=tuple(notes),
    )


def judge_again(record: DecisionRecord) -> Approval | Refusal:
    """Return the verdict on a record's inputs."""
    inputs = msgspec.json.decode(record.inputs, type=Inputs)
    return judge(inputs.intent, inputs.view, inputs.limits)
