"""Both sides of a venue at a wire, as one object with handlers.

In: how to reach the venue, the symbols, callables. Out: trades, quotes, books and states to the handlers; the account's
reports; orders, cancels and questions to the venue. Never: a handler's error in the adapter, an order without a key.

A venue that does not count its trades (MEXC) is asked for those that its stream lost; they reach the handlers late, out
of the order of their times.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from shared.clock import NANOSECONDS_PER_SECOND, wall_ns
from shared.errors import ConfigError, UnavailableError
from shared.exchange.live.config import WireConfig
from shared.exchange.port import Streams, VenueReport, WireVenue
from shared.exchange.venues import make_market, make_venue
from shared.messages import Bar, Bbo, BookSnapshot, FeedState, Instrument, Trade

RECOVER_EVERY_S, RECOVER_SPAN_S, SETTLED_S = 10.0, 30.0, 0.5

OnTrades = Callable[[Sequence[Trade]], None]
OnBbo = Callable[[Bbo], None]
OnBook = Callable[[BookSnapshot], None]
OnReport = Callable[[VenueReport], None]


class OnStatus(Protocol):
    """Take the state of a market, or (None) of the connection."""

    def __call__(self, instrument: str | None, state: FeedState, reason: str) -> None: ...


class WireSides:
    """Hold a venue's public and private side; without a key there is the public one alone."""

    def __init__(self, config: WireConfig) -> None:
        self.market = make_market(config)
        self._venue = make_venue(config) if config.api_key else None
        self.instruments: tuple[Instrument, ...] = ()
        self._trades: list[OnTrades] = []
        self._bbos: list[OnBbo] = []
        self._books: list[OnBook] = []
        self._statuses: list[OnStatus] = []
        self._reports: list[OnReport] = []
        self._recovering: asyncio.Task[None] | None = None

    @property
    def venue(self) -> WireVenue:
        """Return the account's side; raises ConfigError when there is no key."""
        if self._venue is None:
            raise ConfigError("orders need a key: give key_file and secret_file")
        return self._venue

    def bind(
        self,
        *,
        on_trades: OnTrades | None = None,
        on_bbo: OnBbo | None = None,
        on_book: OnBook | None = None,
        on_status: OnStatus | None = None,
        on_report: OnReport | None = None,
    ) -> None:
        """Call these from now on, besides those that were bound before."""
        self._trades += [] if on_trades is None else [on_trades]
        self._bbos += [] if on_bbo is None else [on_bbo]
        self._books += [] if on_book is None else [on_book]
        self._statuses += [] if on_status is None else [on_status]
        self._reports += [] if on_report is None else [on_report]

    async def open(self, symbols: Sequence[str]) -> None:
        """Connect both sides; raises as the port says, with nothing left open then."""
        try:
            if self._venue is not None:
                await self._venue.open(symbols, self._on_report)
            self.instruments = await self.market.instruments(symbols)
            await self.market.open(symbols, Streams(), self)
            if not self.market.counts_trades:
                self._recovering = asyncio.create_task(self._recover(tuple(symbols)), name="lost trades")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        task, self._recovering = self._recovering, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self.market.close()
        if self._venue is not None:
            await self._venue.close()

    def on_trades(self, trades: Sequence[Trade]) -> None:
        """Hand trades on."""
        for handler in self._trades:
            _call(partial(handler, trades))

    def on_bbo(self, bbo: Bbo) -> None:
        """Hand the best bid and ask on."""
        for handler in self._bbos:
            _call(partial(handler, bbo))

    def on_book(self, book: BookSnapshot) -> None:
        """Hand a book on."""
        for handler in self._books:
            _call(partial(handler, book))

    def on_venue_bar(self, bar: Bar) -> None:
        """Do nothing: no candles were asked for."""

    def on_instrument(self, instrument: Instrument) -> None:
        """Keep the new grid in `instruments`."""
        kept = (instrument if one.symbol == instrument.symbol else one for one in self.instruments)
        self.instruments = tuple(kept)

    def on_status(self, instrument: str | None, state: FeedState, reason: str) -> None:
        """Hand a state on."""
        for handler in self._statuses:
            _call(partial(handler, instrument, state, reason))

    async def _recover(self, symbols: Sequence[str]) -> None:
        while True:
            await asyncio.sleep(RECOVER_EVERY_S)
            for symbol in symbols:
                end_ns = wall_ns() + self.market.clock_offset_ns() - int(SETTLED_S * NANOSECONDS_PER_SECOND)
                start_ns = end_ns - int(RECOVER_SPAN_S * NANOSECONDS_PER_SECOND)
                try:
                    found = await self.market.recover(symbol, start_ns, end_ns)
                except UnavailableError:
                    continue
                if found.lost:
                    self.on_trades(found.lost)

    def _on_report(self, report: VenueReport) -> None:
        for handler in self._reports:
            _call(partial(handler, report))


def _call(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - a handler's error is its owner's: told to the loop, kept from the adapter
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a handler of the exchange failed", "exception": error}
        )
