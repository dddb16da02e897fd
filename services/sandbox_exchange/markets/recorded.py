"""Raw Binance frames, replayed exactly as they were recorded, with the REST snapshot at its place in the stream.

In: a file of lines `local_ns json`: combined stream frames, and one REST depth snapshot among them. Out: the frames'
own bytes at their own distances in time. Never: a frame changed, left out or out of order; a snapshot from before the
frames that it must follow.
"""

import gzip
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from shared.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"


class FrameKind(StrEnum):
    """Name a stream of the recording; each is the stream's own word."""

    DEPTH = "depth"
    BOOK_TICKER = "bookTicker"
    TRADE = "trade"


class RecordedFrame(msgspec.Struct, frozen=True):
    """Hold one frame. `payload` is the whole combined frame `{"stream":…,"data":…}`, `data` its inner object alone.

    `offset_ns` counts from the recording's first line and never falls.
    """

    offset_ns: int
    kind: FrameKind
    stream: str
    payload: bytes
    data: bytes


class RecordedMarket(msgspec.Struct, frozen=True):
    """Hold a recording; `frames[:snapshot_index]` came before the REST snapshot, whose body is `snapshot_bytes`."""

    symbol: str
    snapshot_bytes: bytes
    snapshot_index: int
    snapshot_offset_ns: int
    frames: Sequence[RecordedFrame]


class _Combined(msgspec.Struct):
    stream: str
    data: msgspec.Raw


class _Named(msgspec.Struct):
    s: str


def load_recorded(path: Path) -> RecordedMarket:
    """Read a recording of one market (plain or gzip).

    Raises InputError, with the line, for anything but frames of one market and exactly one snapshot.
    """
    combined, symbols = msgspec.json.Decoder(_Combined), set[str]()
    named = msgspec.json.Decoder(_Named)
    frames: list[RecordedFrame] = []
    snapshot: tuple[bytes, int, int] | None = None
    first_ns: int | None = None
    offset_ns = 0
    for number, line in enumerate(_lines(path), start=1):
        time_text, _, body = line.partition(b" ")
        if not time_text.isdigit() or not body:
            raise InputError(f"{path.name} line {number}: is not `local_ns json`: record the file again")
        first_ns = int(time_text) if first_ns is None else first_ns
        offset_ns = max(offset_ns, int(time_text) - first_ns)
        if body.startswith(b'{"lastUpdateId"'):
            if snapshot is not None:
                raise InputError(f"{path.name} line {number}: holds a second snapshot: leave one in the file")
            snapshot = (body, len(frames), offset_ns)
            continue
        try:
            frame = combined.decode(body)
            symbols.add(named.decode(frame.data).s)
            kind = FrameKind(frame.stream.split("@")[1])
        except (msgspec.DecodeError, ValueError, IndexError) as error:
            raise InputError(f"{path.name} line {number}: is no depth, bookTicker or trade frame: {error}") from error
        frames.append(RecordedFrame(offset_ns, kind, frame.stream, body, bytes(frame.data)))
    if snapshot is None or len(symbols) != 1:
        found = ", ".join(sorted(symbols)) or "none"
        raise InputError(f"{path.name}: needs frames of one market (found: {found}) and one REST snapshot among them")
    return RecordedMarket(symbols.pop(), *snapshot, tuple(frames))


def _lines(path: Path) -> Sequence[bytes]:
    try:
        content = path.read_bytes()
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: cannot be read: {error}. Give the path of a recording") from error
    return content.splitlines()
