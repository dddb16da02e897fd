"""The parts of NATS' wire formats that this stack uses: JetStream answers, acknowledgement subjects, statuses.

In: bytes and header texts from the server. Out: Structs with the fields that matter here. Pure: no I/O.
"""

import msgspec

from shared.errors import BusUnavailableError

SERVER_VERSION_MIN = (2, 14, 0)

API = "$JS.API"
HEADER_ID = "Nats-Msg-Id"
HEADER_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
HEADER_STATUS = "Status"
HEADER_DESCRIPTION = "Description"
HEADER_SEQUENCE = "Nats-Sequence"
HEADER_SUBJECT = "Nats-Subject"
HEADER_PENDING_MESSAGES = "Nats-Pending-Messages"
HEADER_OPERATION = "KV-Operation"

STATUS_BATCH_END = "204"
STATUS_NOT_FOUND = "404"
STATUS_EXPIRED = "408"
STATUS_CONFLICT = "409"
STATUS_NO_RESPONDER = "503"
STATUS_HEARTBEAT = "100"

ACK = b""
IN_PROGRESS = b"+WPI"

ERROR_CONSUMER_NOT_FOUND = 10014
ERROR_STREAM_NOT_FOUND = 10059
ERROR_WRONG_LAST_SEQUENCE = 10071
CODE_UNAVAILABLE = 503


class ApiError(msgspec.Struct, frozen=True):
    """Hold the server's refusal."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class StoredAnswer(msgspec.Struct, frozen=True):
    """Answer a publication into a stream."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class SequencePair(msgspec.Struct, frozen=True):
    """Name a place in a consumer's deliveries and in its stream."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerAnswer(msgspec.Struct, frozen=True):
    """Answer a question about a consumer. `config` keeps every key, to be sent back in an update."""

    created: str = ""
    config: dict[str, object] = {}
    delivered: SequencePair = SequencePair()
    ack_floor: SequencePair = SequencePair()
    num_ack_pending: int = 0
    error: ApiError | None = None


class StreamPosition(msgspec.Struct, frozen=True):
    """Tell which sequences a stream holds."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0


class StreamAnswer(msgspec.Struct, frozen=True):
    """Answer a question about a stream."""

    created: str = ""
    config: dict[str, object] = {}
    state: StreamPosition = StreamPosition()
    error: ApiError | None = None


class Place(msgspec.Struct, frozen=True):
    """Say where a delivered frame stands, as its acknowledgement subject tells."""

    stream_sequence: int
    consumer_sequence: int
    delivered: int


_V1_TOKENS = 9
_V1_FIRST = 4
_V2_FIRST = 6


def place_of(reply: str) -> Place | None:
    """Return the place that an acknowledgement subject names, or None for any other subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`, in newer servers with a
    domain and an account hash before the stream and a token at the end.
    """
    parts = reply.split(".")
    if len(parts) < _V1_TOKENS or parts[0] != "$JS" or parts[1] != "ACK":
        return None
    first = _V1_FIRST if len(parts) == _V1_TOKENS else _V2_FIRST
    try:
        return Place(
            delivered=int(parts[first]),
            stream_sequence=int(parts[first + 1]),
            consumer_sequence=int(parts[first + 2]),
        )
    except ValueError:
        return None


def parse[T](kind: type[T], payload: bytes) -> T:
    """Return the server's JSON answer; raises BusUnavailableError when it is none."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise BusUnavailableError(f"the server's answer cannot be read: {error}") from error
