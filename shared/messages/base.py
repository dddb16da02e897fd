"""The base of every message, and the words that several of them share."""

from enum import StrEnum

import msgspec


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, tag_field="message"):
    """Be the base of everything that travels on the bus: an immutable msgpack array, tagged with its class name."""


class Side(StrEnum):
    """Name what happens to the base asset."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> "Side":
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY
