"""Operator commands: asked on `cmd.<service>.<verb>`, audited before they act, always answered."""

from shared.messages.base import Message


class Command(Message, frozen=True):
    """Ask a service to do something. `arguments` is JSON, `{}` for none."""

    verb: str
    user: str
    reason: str
    correlation_id: str
    arguments: str
    sent_at_ns: int


class CommandReply(Message, frozen=True):
    """Answer a command: done or not, a sentence for the operator, and JSON where there is something to show."""

    ok: bool
    detail: str
    correlation_id: str
    result: str


class CommandAudit(Message, frozen=True):
    """Record a command before it acts."""

    service: str
    command: Command
    received_at_ns: int
