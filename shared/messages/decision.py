"""The decision journal: what was decided, on which inputs, and why, also why nothing was done."""

from shared.messages.base import Message


class DecisionRecord(Message, frozen=True):
    """Explain one decision. `inputs` and `outcome` are JSON; the core, given `inputs`, yields `outcome` again.

    `action` is a short word (`none`, `wait`, `allocate`, `upside`, `downside`, `position_limit`).
    """

    decision_id: str
    service: str
    strategy: str
    venue: str
    action: str
    decided_at_ns: int
    correlation_id: str
    inputs: str
    outcome: str
    notes: tuple[str, ...]
