"""Live quotes for simulated fills: the newest best bid and ask of each market, handed to the paper venue in turns.

In: `md.bbo.*`, lossy and unbatched. Out: fills of resting orders, and a fresher market for new ones. Never: a turn for
every quote of a fast market; only the newest of each counts.
"""

import asyncio

from services.execution.desk import Desk
from services.execution.recovery import Recovery
from shared.bus.port import Delivery, Subscription
from shared.errors import InputError, UnavailableError
from shared.exchange.port import SimulatedVenue
from shared.messages import Bbo

INTERVAL_S = 0.1


class Quotes:
    """Feed a simulated venue with live quotes."""

    def __init__(self, desk: Desk, venue: SimulatedVenue) -> None:
        self._desk, self._venue = desk, venue
        self._newest: dict[str, Bbo] = {}

    async def start(self, recovery: Recovery) -> Subscription:
        """Listen from now on; the work runs beside the service."""
        self._desk.host.spawn(self._feed_forever(recovery), "quotes")
        return await self._desk.bus.subscribe(f"md.bbo.{self._venue.venue}.*", self._on_quote)

    async def _on_quote(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Bbo):
            self._newest[delivery.message.instrument] = delivery.message

    async def _feed_forever(self, recovery: Recovery) -> None:
        desk = self._desk
        while True:
            await asyncio.sleep(INTERVAL_S)
            newest, self._newest = self._newest, {}
            if not newest:
                continue
            try:
                async with desk.turn:
                    if await self._feed(newest):
                        await recovery.pull_trades()
                        await desk.publisher.flush()
            except UnavailableError as error:
                desk.log.warning("fills_not_published", error=repr(error))

    async def _feed(self, quotes: dict[str, Bbo]) -> bool:
        has_filled = False
        for quote in quotes.values():
            try:
                has_filled |= bool(await self._venue.on_bbo(quote))
            except InputError as error:
                self._desk.log.warning("quote_refused", instrument=quote.instrument, error=str(error))
        return has_filled
