"""Risk: the state that decides whether anything may be sent."""

from enum import StrEnum

from shared.messages.base import Message


class TradingState(StrEnum):
    """Name what may be sent: all, only what reduces exposure, or nothing. Cancels always pass."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"


class RiskState(Message, frozen=True):
    """Report the trading state now in force, who set it and why."""

    state: TradingState
    changed_by: str
    reason: str
    correlation_id: str
    changed_at_ns: int


class RiskHalt(Message, frozen=True):
    """Demand a halt; risk obeys at once and keeps it over restarts until a person resumes."""

    demanded_by: str
    reason: str
    correlation_id: str
    demanded_at_ns: int
