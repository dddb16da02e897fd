"""Signals: what a strategy's model thinks, before it becomes an order."""

from enum import StrEnum

from shared.messages.base import Message


class Direction(StrEnum):
    """Name the position that a signal argues for."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


class Signal(Message, frozen=True):
    """State a view on one instrument; `strength` and `confidence` lie in [0, 1]."""

    strategy: str
    venue: str
    instrument: str
    direction: Direction
    strength: float
    confidence: float
    features: dict[str, float]
    reason: str
    ts_event_ns: int
