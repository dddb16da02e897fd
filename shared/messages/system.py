"""The system about itself: heartbeats, progress through market time, frames that could not be read."""

from shared.messages.base import Message


class Heartbeat(Message, frozen=True):
    """Say that an instance lives; `schema_hash` must agree everywhere before live trading is armed."""

    service: str
    instance: str
    build: str
    schema_hash: str
    pid: int
    ready: bool
    detail: str
    started_at_ns: int
    sent_at_ns: int


class Progress(Message, frozen=True):
    """Say that a service has finished everything that market time `close_time_ns` gave it to do.

    A replay at full speed goes on to the next step when every participant has said so.
    """

    service: str
    venue: str
    close_time_ns: int


class DeadLetter(Message, frozen=True):
    """Keep a frame that could not be handled, and why."""

    service: str
    subject: str
    reason: str
    payload: bytes
    received_at_ns: int
