"""The trading state and who may change it: anybody may halt, only a person with a reason may loosen.

Tightening needs no authority. Loosening (HALTED to REDUCING or ACTIVE, REDUCING to ACTIVE) and REDUCING itself come
from operator commands alone.
"""

import msgspec

from shared.messages import RiskState, TradingState

REASON_LENGTH_MAX = 1_000


class Demand(msgspec.Struct, frozen=True):
    """Ask for a trading state; `by_operator` when it came as an audited command."""

    target: TradingState
    by: str
    reason: str
    correlation_id: str
    at_ns: int
    by_operator: bool


def change(current: RiskState, demand: Demand) -> RiskState | str:
    """Return the state in force after the demand, or the sentence that refuses it.

    A state that is in force already stays, with who set it first, and why; another reason to halt is added to that
    one, once, for as long as there is room.
    """
    if demand.target is not TradingState.HALTED:
        if not demand.by_operator:
            return "only an operator's command may do that"
        if not demand.by.strip():
            return "the command names no user"
        if not demand.reason.strip():
            return "a reason is needed: say why it is safe"
    if demand.target is current.state:
        return _joined(current, demand) if demand.target is TradingState.HALTED else current
    return RiskState(
        state=demand.target,
        changed_by=demand.by.strip()[:REASON_LENGTH_MAX] or "unknown",
        reason=demand.reason.strip()[:REASON_LENGTH_MAX] or "no reason given",
        correlation_id=demand.correlation_id[:REASON_LENGTH_MAX],
        changed_at_ns=demand.at_ns,
    )


def _joined(current: RiskState, demand: Demand) -> RiskState:
    by, reason = demand.by.strip() or "unknown", demand.reason.strip()
    addition = f"; also {by}: {reason}"
    is_known = f"{current.reason}; also ".startswith(f"{reason}; also ") or f"{addition};" in f"{current.reason};"
    if not reason or is_known:
        return current
    both = current.reason + addition
    return current if len(both) > REASON_LENGTH_MAX else msgspec.structs.replace(current, reason=both)


def first_state(*, start_active: bool, at_ns: int) -> RiskState:
    """Return the state of a first start: ACTIVE where no real money is at stake, else HALTED until a person resumes."""
    if start_active:
        return RiskState(TradingState.ACTIVE, "risk", "first start", "", at_ns)
    return RiskState(TradingState.HALTED, "risk", "first start: an operator must resume", "", at_ns)


def unreadable_state(detail: str, *, at_ns: int) -> RiskState:
    """Return the state when none can be read: HALTED."""
    return RiskState(TradingState.HALTED, "risk", f"the last state cannot be read: {detail}", "", at_ns)
