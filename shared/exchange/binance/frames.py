"""The frames of Binance's public streams.

In: a websocket's text. Out: typed frames, prices and sizes as the floats nearest to the venue's decimals, times in
milliseconds. Never: a number that no market can have, a time in another unit than milliseconds taken for one.

Frames are told apart by how they begin, which is how Binance has always written them; one that begins otherwise is
read the slow way. Source: binance-spot-api-docs, web-socket-streams.
"""

import msgspec

from shared.clock import NANOSECONDS_PER_MILLISECOND

# From 2017 to 2100 in milliseconds: a time in seconds or microseconds lies outside.
TIME_MS_MIN, TIME_MS_MAX = 1_500_000_000_000, 4_102_444_800_000
INFINITY = float("inf")

FloatLevel = tuple[float, float]


class TradeFrame(msgspec.Struct, gc=False):
    """Report one trade; `m` says that the buyer rested, so that the taker sold."""

    s: str
    t: int
    p: float
    q: float
    T: int
    m: bool


class DepthFrame(msgspec.Struct, gc=False):
    """Report what changed in a book from update `U` to update `u`; absolute quantities, 0 removes."""

    E: int
    s: str
    U: int
    u: int
    b: list[FloatLevel]
    a: list[FloatLevel]


class BookTickerFrame(msgspec.Struct, gc=False):
    """Report the best bid `b` with its quantity `B`, and the best ask `a` with `A`, after update `u`."""

    u: int
    s: str
    b: float
    B: float
    a: float
    A: float


class Kline(msgspec.Struct, gc=False):
    """Report a candle; `T` is its last millisecond, `x` says that it is closed."""

    t: int
    T: int
    s: str
    i: str
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the venue's name
    v: float
    q: float
    x: bool


class KlineFrame(msgspec.Struct, gc=False):
    """Carry a candle."""

    k: Kline


class ErrorBody(msgspec.Struct):
    """Say what was wrong with a request."""

    code: int
    msg: str = ""


class ReplyFrame(msgspec.Struct):
    """Answer a request by its `id`; `error` (or a bare `code`) is set for a refusal."""

    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: ErrorBody | None = None
    code: int | None = None
    msg: str = ""


class ShutdownFrame(msgspec.Struct):
    """Say that the server is about to close the connection."""

    E: int


class UnknownFrame(msgspec.Struct):
    """Be a frame that was not asked for."""

    kind: str


Frame = TradeFrame | DepthFrame | BookTickerFrame | KlineFrame | ReplyFrame | ShutdownFrame | UnknownFrame

_trade = msgspec.json.Decoder(TradeFrame, strict=False).decode
_depth = msgspec.json.Decoder(DepthFrame, strict=False).decode
_ticker = msgspec.json.Decoder(BookTickerFrame, strict=False).decode
_kline = msgspec.json.Decoder(KlineFrame, strict=False).decode
_reply = msgspec.json.Decoder(ReplyFrame, strict=False).decode
_shutdown = msgspec.json.Decoder(ShutdownFrame, strict=False).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode(frame: str | bytes) -> Frame:
    """Return what a frame says; raises ValueError for one that cannot be read."""
    if isinstance(frame, bytes):
        frame = frame.decode()
    if frame.startswith('{"e":"depthUpdate"'):
        return _checked_depth(_depth(frame))
    if frame.startswith('{"e":"trade"'):
        return _checked_trade(_trade(frame))
    if frame.startswith('{"u":'):
        return _ticker(frame)
    return _slowly(frame)


def time_ns(time_ms: int) -> int:
    """Return a venue's time in nanoseconds; raises ValueError for one that is no time in milliseconds."""
    if not TIME_MS_MIN <= time_ms < TIME_MS_MAX:
        raise ValueError(f"{time_ms} is no time in milliseconds of this century")
    return time_ms * NANOSECONDS_PER_MILLISECOND


def is_sane(frame: BookTickerFrame) -> bool:
    """Tell whether a best bid and ask are those of a market: both there, finite, not crossed or locked."""
    return 0.0 < frame.b < frame.a < INFINITY and 0.0 < frame.B < INFINITY and 0.0 < frame.A < INFINITY


def _slowly(frame: str) -> Frame:
    fields = _object(frame)
    if "stream" in fields and "data" in fields:
        return decode(bytes(fields["data"]))
    kind = bytes(fields["e"]).decode().strip('"') if "e" in fields else ""
    if kind == "depthUpdate":
        return _checked_depth(_depth(frame))
    if kind == "trade":
        return _checked_trade(_trade(frame))
    if kind == "kline":
        return _checked_kline(_kline(frame))
    if kind == "serverShutdown":
        return _shutdown(frame)
    if not kind and "u" in fields and "B" in fields:
        return _ticker(frame)
    if not kind and ("id" in fields or "result" in fields or "error" in fields or "code" in fields):
        return _reply(frame)
    return UnknownFrame(kind)


def _checked_trade(frame: TradeFrame) -> TradeFrame:
    if not (0.0 < frame.p < INFINITY and 0.0 < frame.q < INFINITY and TIME_MS_MIN <= frame.T < TIME_MS_MAX):
        raise ValueError(f"a trade of {frame.s} at {frame.p} for {frame.q}, time {frame.T}, cannot be")
    return frame


def _checked_depth(frame: DepthFrame) -> DepthFrame:
    if not TIME_MS_MIN <= frame.E < TIME_MS_MAX:
        raise ValueError(f"{frame.E} is no time in milliseconds of this century")
    return frame


def _checked_kline(frame: KlineFrame) -> KlineFrame:
    k = frame.k
    is_bar = 0.0 < k.l <= min(k.o, k.c) and max(k.o, k.c) <= k.h < INFINITY and 0.0 <= k.v < INFINITY
    if not is_bar or not TIME_MS_MIN <= k.t <= k.T < TIME_MS_MAX or not 0.0 <= k.q < INFINITY:
        raise ValueError(f"a candle of {k.s} from {k.t} cannot be")
    return frame
