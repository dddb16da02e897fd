"""The public side of a venue in a test's hands: it says what the test says, and has the candles that the test gave it.

In: the test's ticks. Out: calls of the sink. Never: anything by itself.
"""

from collections.abc import Sequence
from decimal import Decimal

from shared.domain.instruments import split_symbol
from shared.errors import UnavailableError
from shared.exchange.port import MarketSink, Recovered, Streams
from shared.messages import Bar, Bbo, BookSnapshot, Instrument, Side, Trade

GRID = Decimal("0.0001")


class FakeVenueMarket:
    """Be a VenueMarket; `failures` calls fail before one works."""

    def __init__(self, venue: str = "mexc") -> None:
        self._venue = venue
        self.sink: MarketSink | None = None
        self.streams: Streams | None = None
        self.failures = 0
        self.candles: dict[str, list[Bar]] = {}
        self.asked: list[tuple[str, str, int, int]] = []
        self.is_closed = False
        self.reconnects: list[str] = []
        self.is_counted = True
        self.listed: dict[str, list[Trade]] = {}
        self.lost: set[str] = set()
        self.listed_from_ns, self.problem = 0, ""
        self._sequence: dict[str, int] = {}

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return self._venue

    async def instruments(self, symbols: Sequence[str]) -> tuple[Instrument, ...]:
        """Return a grid for each symbol."""
        self._check()
        return tuple(Instrument(symbol, *split_symbol(symbol), GRID, GRID, GRID, Decimal(1)) for symbol in symbols)

    async def open(self, symbols: Sequence[str], streams: Streams, sink: MarketSink) -> None:
        """Take the sink."""
        del symbols
        self._check()
        self.streams, self.sink = streams, sink

    def book(self, instrument: str) -> BookSnapshot | None:
        """Return None."""
        del instrument
        return None

    async def bars(self, instrument: str, timeframe: str, start_ns: int, end_ns: int) -> tuple[Bar, ...]:
        """Return the candles that the test gave."""
        self.asked.append((instrument, timeframe, start_ns, end_ns))
        self._check()
        return tuple(bar for bar in self.candles.get(instrument, ()) if start_ns <= bar.open_time_ns < end_ns)

    @property
    def counts_trades(self) -> bool:
        """Return whether the test wants it so."""
        return self.is_counted

    async def recover(self, instrument: str, start_ns: int, end_ns: int) -> Recovered:
        """Return what the test says was traded; lost is what it says was lost, once."""
        self._check()
        if self.problem:
            return Recovered(problem=self.problem)
        since_ns = max(start_ns, self.listed_from_ns)
        trades = tuple(one for one in self.listed.get(instrument, ()) if since_ns <= one.ts_event_ns < end_ns)
        lost = tuple(one for one in trades if one.trade_id in self.lost)
        self.lost -= {one.trade_id for one in lost}
        return Recovered(trades=trades, lost=lost, whole_from_ns=since_ns)

    def clock_offset_ns(self) -> int:
        """Return 0: the clocks agree."""
        return 0

    async def measure_clock(self) -> None:
        """Answer, or fail as the test says."""
        self._check()

    def reconnect(self, reason: str) -> None:
        """Remember it."""
        self.reconnects.append(reason)

    async def close(self) -> None:
        """Remember it."""
        self.is_closed = True

    def trade(self, instrument: str, at_ns: int, price: float = 2.0, *, count: int = 1, skip: int = 0) -> None:
        """Say that `count` trades happened at one time; `skip` sequence numbers are left out before."""
        assert self.sink is not None
        start = self._sequence.get(instrument, 0) + 1 + skip
        trades = [
            Trade(self._venue, instrument, f"{instrument}-{number}", Side.BUY, price, 1.0, at_ns, at_ns, number)
            for number in range(start, start + count)
        ]
        self._sequence[instrument] = start + count - 1
        self.sink.on_trades(trades)

    def quote(self, instrument: str, at_ns: int, bid: float, ask: float, sequence: int) -> None:
        """Say the best bid and ask."""
        assert self.sink is not None
        self.sink.on_bbo(Bbo(self._venue, instrument, bid, 1.0, ask, 1.0, at_ns, at_ns, sequence))

    def levels(self, instrument: str, at_ns: int, bid: float, ask: float, sequence: int) -> None:
        """Say a book of one level a side."""
        assert self.sink is not None
        book = BookSnapshot(self._venue, instrument, ((bid, 1.0),), ((ask, 1.0),), at_ns, at_ns, sequence)
        self.sink.on_book(book)

    def _check(self) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("fake: 503")
