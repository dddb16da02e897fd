"""msgpack in and out, and the hash that tells whether two builds speak the same schema.

In: messages, or bytes from anybody. Out: bytes, or messages. Never: a partly decoded or silently coerced message.
"""

import hashlib
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from shared.errors import DecodeError
from shared.messages.account import AccountSnapshot
from shared.messages.base import Message
from shared.messages.command import Command, CommandAudit, CommandReply
from shared.messages.decision import DecisionRecord
from shared.messages.market import (
    Bar,
    BarsClosed,
    Bbo,
    BookSnapshot,
    InstrumentDefinition,
    MarketStatus,
    Trade,
)
from shared.messages.order import OrderApproved, OrderEvent, OrderIntent, OrderRefused
from shared.messages.risk import RiskHalt, RiskState
from shared.messages.signal import Signal
from shared.messages.system import DeadLetter, Heartbeat, Progress
from shared.messages.trade_batch import TradeBatch

AnyMessage = (
    Trade
    | TradeBatch
    | Bbo
    | BookSnapshot
    | Bar
    | BarsClosed
    | InstrumentDefinition
    | MarketStatus
    | Signal
    | OrderIntent
    | OrderApproved
    | OrderRefused
    | OrderEvent
    | RiskState
    | RiskHalt
    | AccountSnapshot
    | DecisionRecord
    | Command
    | CommandReply
    | CommandAudit
    | Heartbeat
    | Progress
    | DeadLetter
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Return the message as msgpack."""
    return _encoder.encode(message)


def decode(payload: bytes) -> AnyMessage:
    """Return the message in `payload`.

    Raises DecodeError for anything that is not exactly one message of this schema.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DecodeError(str(error)) from error


def message_types() -> tuple[type[Message], ...]:
    """Return every message type, in flow order."""
    return AnyMessage.__args__


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema definitions of every message type, keyed by type name."""
    _, components = msgspec.json.schema_components(message_types(), ref_template="#/$defs/{name}")
    return dict(sorted(components.items()))


@cache
def schema_hash() -> str:
    """Return 12 hex digits that change whenever any message's shape changes.

    Arrays carry no names, so the JSON Schema alone would not see two fields of one type that change places.
    """
    names: dict[str, list[str]] = {}
    for kind in message_types():
        _note_field_names(kind, names)
    canonical = msgspec.json.encode([schema(), names], order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:12]


def other_schemas(beats: Iterable[Heartbeat]) -> list[str]:
    """Return the services among these heartbeats that speak another schema than this build, in order of name.

    Trading with real money is not resumed while there is one.
    """
    return sorted({beat.service for beat in beats if beat.schema_hash != schema_hash()})


def _note_field_names(annotation: object, names: dict[str, list[str]]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) and annotation.__name__ not in names:
        names[annotation.__name__] = list(annotation.__struct_fields__)
        for field in get_type_hints(annotation).values():
            _note_field_names(field, names)
    for part in get_args(annotation):
        _note_field_names(part, names)
