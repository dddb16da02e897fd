"""The market as the gate knows it: instruments, the closes in force, quotes, and how far the feeds are trusted.

In: definitions, closed bars, their ends, quotes, feed states. Out: one consistent market at one time. A bar comes in
force when its step is closed, all instruments at once; so a verdict never sees half a step.
Never: a price that is no positive number, an older one over a newer one.
"""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from services.risk.core.exposure import is_amount, is_positive_amount
from services.risk.core.view import Price, Quote
from shared.domain.money import money_of
from shared.errors import InputError
from shared.messages import RELEASED, Balance, Bar, BarsClosed, Bbo, FeedState, Instrument, MarketStatus

VOID = "it was released, what it was worth before it was frozen is void, and no newer bar or quote has come yet"


class Closes(msgspec.Struct, frozen=True):
    """Keep an instrument's two newest closes: which one is in force depends on the newest closed step."""

    newest: Price
    before: Price | None = None


class Market:
    """Follow one venue's market."""

    def __init__(self) -> None:
        self.closed_ns = 0
        self.instruments: dict[str, Instrument] = {}
        self.closes: dict[str, Closes] = {}
        # Each with the reason that was given.
        self.frozen: dict[str, str] = {}
        self.stale: dict[str, str] = {}
        # When an operator released it: a price of before then is void, since the freeze said that it is another thing.
        self.void: dict[str, int] = {}
        self._quotes: dict[str, Quote] = {}
        self._feed = FeedState.LIVE

    def on_instrument(self, instrument: Instrument) -> bool:
        """Take a definition; False when its numbers cannot be."""
        grid = (instrument.tick_size, instrument.step_size)
        least = (instrument.quantity_min, instrument.notional_min)
        if not (all(map(is_positive_amount, grid)) and all(map(is_amount, least))):
            return False
        self.instruments[instrument.symbol] = instrument
        return True

    def on_bar(self, bar: Bar) -> bool:
        """Take a closed bar; False when its close is no price or it is older than what is known."""
        value = _price(bar.close)
        if value is None:
            return False
        price = Price(value, bar.close_time_ns)
        known = self.closes.get(bar.instrument)
        if known is None:
            self.closes[bar.instrument] = Closes(price)
        elif price.at_ns > known.newest.at_ns:
            self.closes[bar.instrument] = Closes(price, before=known.newest)
        else:
            # A bar that was published twice says the same; a revised one does not change what was decided on.
            return price == known.newest
        return True

    def on_closed(self, closed: BarsClosed) -> bool:
        """Put the step's bars in force; False when a later step already is. A feed that closes steps is live."""
        if closed.close_time_ns < self.closed_ns:
            return False
        self.closed_ns = closed.close_time_ns
        self._feed = FeedState.LIVE
        return True

    def on_quote(self, bbo: Bbo) -> None:
        """Take a best bid and ask; what is no price counts as a book without one, which the checks refuse."""
        known = self._quotes.get(bbo.instrument)
        if known is None or bbo.ts_event_ns >= known.at_ns:
            bid, ask = (_price(side) or Decimal(0) for side in (bbo.bid_price, bbo.ask_price))
            self._quotes[bbo.instrument] = Quote(bid, ask, bbo.ts_event_ns)

    def on_status(self, status: MarketStatus) -> None:
        """Take the state of a feed, or of one instrument, which stays frozen or stale until it is said to be live."""
        if status.instrument is None:
            self._feed = status.state
        elif status.state is FeedState.STALE:
            self.stale[status.instrument] = status.reason
        elif status.state is FeedState.FROZEN:
            self.frozen[status.instrument] = status.reason
        elif status.state is FeedState.LIVE:
            if status.reason == RELEASED and status.instrument in self.frozen:
                self.void[status.instrument] = status.ts_event_ns
            self.frozen.pop(status.instrument, None)
            self.stale.pop(status.instrument, None)

    def price(self, symbol: str) -> Price | None:
        """Return the close in force, or None. After a release it is a newer close, or the mid of a newer quote."""
        closes = self.closes.get(symbol)
        if closes is None:
            return None
        price = closes.newest if closes.newest.at_ns <= self.closed_ns else closes.before
        void_ns = self.void.get(symbol)
        if void_ns is None or price is None or price.at_ns > void_ns:
            return price
        quote = self._quotes.get(symbol)
        if quote is None or quote.at_ns <= void_ns or not 0 < quote.bid < quote.ask:
            return None
        return Price((quote.bid + quote.ask) / 2, quote.at_ns)

    def quote(self, symbol: str) -> Quote | None:
        """Return the newest best bid and ask, or None."""
        return self._quotes.get(symbol)

    def feed(self, symbol: str) -> FeedState:
        """Return how far the instrument's feed is trusted. A feed at its end is trusted: its last step is complete."""
        if symbol in self.frozen:
            return FeedState.FROZEN
        if symbol in self.stale:
            return FeedState.STALE
        return FeedState.LIVE if self._feed is FeedState.ENDED else self._feed

    def why(self, symbol: str) -> str:
        """Return why the instrument is frozen or stale, in the words of whoever said so, or why its price is void.

        Empty when nothing is wrong with it.
        """
        told = self.frozen.get(symbol) or self.stale.get(symbol, "")
        return VOID if not told and symbol in self.void and self.price(symbol) is None else told

    def equity(self, balances: Iterable[Balance], quote_asset: str) -> Decimal | None:
        """Return what the balances are worth at the closes in force; None when one of a known market has no price.

        An asset without a market here counts for nothing, which only tightens the limits that are shares of equity.
        """
        worth = Decimal(0)
        for balance in balances:
            symbol = f"{balance.asset}-{quote_asset}"
            if balance.asset == quote_asset:
                worth += balance.total
            elif balance.total and symbol in self.instruments:
                price = self.price(symbol)
                if price is None:
                    return None
                worth += balance.total * price.value
        return worth


def _price(value: float) -> Decimal | None:
    try:
        price = money_of(value)
    except InputError:
        return None
    return price if is_positive_amount(price) else None
