"""A market sink that remembers.

In: what a venue's market side says. Out: lists of it. Never: a judgement; tests have their own.
"""

from collections.abc import Sequence

from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Instrument, Trade


class RecordingSink:
    """Keep what was told, in order."""

    def __init__(self) -> None:
        self.trades: list[Trade] = []
        self.bbos: list[Bbo] = []
        self.books: list[BookSnapshot] = []
        self.bars: list[Bar] = []
        self.instruments: list[Instrument] = []
        self.statuses: list[tuple[str | None, FeedState, str]] = []

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """Keep trades."""
        self.trades.extend(trades)

    def on_bbo(self, bbo: Bbo) -> None:
        """Keep the best prices."""
        self.bbos.append(bbo)

    def on_book(self, book: BookSnapshot) -> None:
        """Keep a book."""
        self.books.append(book)

    def on_venue_bar(self, bar: Bar) -> None:
        """Keep a candle."""
        self.bars.append(bar)

    def on_instrument(self, instrument: Instrument) -> None:
        """Keep a changed grid."""
        self.instruments.append(instrument)

    def on_status(self, instrument: str | None, state: FeedState, reason: str) -> None:
        """Keep a state."""
        self.statuses.append((instrument, state, reason))

    def states(self, instrument: str | None) -> list[FeedState]:
        """Return the states of a market, or (None) of the connection, in order."""
        return [state for name, state, _ in self.statuses if name == instrument]
