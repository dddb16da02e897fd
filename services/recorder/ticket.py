"""What confirms that a durable row is on disk."""

from typing import Protocol


class Ticket(Protocol):
    """Confirm one durable message."""

    async def ack(self) -> None:
        """Confirm that it is on disk."""
        ...


class Kept:
    """Be the ticket of what must not be lost and needs no confirmation."""

    async def ack(self) -> None:
        """Do nothing."""
