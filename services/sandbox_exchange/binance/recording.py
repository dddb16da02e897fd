"""A recorded market on the wire: its frames to whoever subscribed, its snapshot to whoever asks.

In: a recording, a speed. Out: the recorded frames, byte for byte, from the first subscription on; the REST snapshot
once the stream has come to its place. Never: a frame for a stream that it was not recorded on.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import msgspec

from services.sandbox_exchange.binance.errors import ApiError
from services.sandbox_exchange.binance.frames import Frame
from services.sandbox_exchange.binance.stream_names import StreamName, parse_stream
from services.sandbox_exchange.config import VenueName
from services.sandbox_exchange.core.model import Market
from services.sandbox_exchange.markets.playback import Playback
from services.sandbox_exchange.markets.recorded import RecordedFrame, RecordedMarket
from services.sandbox_exchange.source import MARKET_ORDERS_MAX
from shared.messages import Instrument

Send = Callable[[StreamName, Frame], None]

START_DELAY_S = 0.25  # for a client's other streams of the market, which it subscribes one after the other
SNAPSHOT_WAIT_S = 8.0
QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "BTC", "ETH", "BNB", "EUR")


class RecordedStreams:
    """Play one recording once for all clients; it starts anew when all of them have left."""

    def __init__(self, recorded: RecordedMarket, speed: float | None) -> None:
        self.symbol = recorded.symbol
        self._recorded, self._speed = recorded, speed
        self._names: dict[str, StreamName] = {}
        for name in {frame.stream for frame in recorded.frames}:
            parsed = parse_stream(name)
            if parsed is not None:
                self._names[name] = parsed
        self._playback = Playback(recorded)
        self._task: asyncio.Task[None] | None = None

    def start(self, send: Send) -> None:
        """Start to play unless it plays already."""
        if self._task is None:
            self._task = asyncio.create_task(self._play(send))

    def stop(self) -> None:
        """Stop, and go back to the recording's start."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self._playback = Playback(self._recorded)

    async def snapshot(self, _limit: int) -> msgspec.Raw:
        """Return the recorded book, waiting for its place in the stream; -1007 when it does not come.

        Its depth is the recorded one, whatever limit was asked for.
        """
        try:
            return msgspec.Raw(await self._playback.snapshot(SNAPSHOT_WAIT_S))
        except TimeoutError:
            words = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
            raise ApiError(-1007, words, status=504) from None

    async def _play(self, send: Send) -> None:
        await asyncio.sleep(START_DELAY_S)

        def pass_on(frame: RecordedFrame) -> None:
            name = self._names.get(frame.stream)
            if name is not None:
                send(name, RecordedFrameText(frame))

        await self._playback.run(pass_on, self._speed)


class RecordedFrameText(Frame):
    """Hold a recorded frame: both its forms are the recorded bytes."""

    __slots__ = ("_frame",)

    def __init__(self, frame: RecordedFrame) -> None:
        super().__init__(frame.stream, "")
        self._frame = frame

    def text(self, *, combined: bool) -> str:
        """Return the frame as it was recorded, whole or its inner object alone."""
        return (self._frame.payload if combined else self._frame.data).decode()


class _Levels(msgspec.Struct):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


def market_of_recording(recorded: RecordedMarket) -> Market:
    """Return a description of a recorded market, its grid read off the recorded book. -1013 answers its orders."""
    book = msgspec.json.decode(recorded.snapshot_bytes, type=_Levels)
    levels = [*book.bids, *book.asks]
    quote = next((one for one in QUOTES if recorded.symbol.endswith(one)), recorded.symbol[-3:])
    base = recorded.symbol.removesuffix(quote)
    grid = Instrument(
        f"{base}-{quote}",
        base,
        quote,
        _grid([price for price, _ in levels]),
        _grid([quantity for _, quantity in levels]),
        Decimal(0),
        Decimal(0),
    )
    return Market(recorded.symbol, grid, orders_max=MARKET_ORDERS_MAX[VenueName.BINANCE])


def _grid(numbers: list[str]) -> Decimal:
    decimals = max(len(one.rstrip("0").partition(".")[2]) for one in numbers)
    return Decimal(1).scaleb(-decimals)
