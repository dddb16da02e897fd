"""The market as execution sees it: closed bars for the simulated venue, marks for the account.

In: instruments, bars and step ends, in the stream's order, any of them twice. Out: fills of resting orders, the account
at each step's end, progress. Never: a bar that fills twice, a price that no market can have.
"""

from services.execution.desk import Desk
from services.execution.recovery import Recovery
from shared.bus.port import Delivery
from shared.domain.money import money_of
from shared.errors import InputError
from shared.messages import Bar, BarsClosed, InstrumentDefinition


class MarketInput:
    """Handle the durable market stream."""

    def __init__(self, desk: Desk, recovery: Recovery) -> None:
        self._desk = desk
        self._recovery = recovery

    async def on_market(self, delivery: Delivery) -> None:
        """Take one message of the market stream; those of other venues are not ours."""
        message = delivery.message
        async with self._desk.turn:
            if isinstance(message, Bar) and message.venue == self._desk.venue.venue:
                await self._take_bar(message)
            elif isinstance(message, BarsClosed) and message.venue == self._desk.venue.venue:
                await self._close_step(message)
            elif isinstance(message, InstrumentDefinition) and message.venue == self._desk.venue.venue:
                await self._desk.venue.define_instrument(message.instrument)

    async def _take_bar(self, bar: Bar) -> None:
        desk = self._desk
        try:
            trades = await desk.venue.on_bar(bar)
            close = money_of(bar.close)
        except InputError as error:
            # The instrument has no price at this step's end then: no order on it, no equity, rather than a wrong one.
            desk.log.error("bar_refused", instrument=bar.instrument, error=str(error))
            return
        desk.host.advance_clock(bar.close_time_ns)
        if trades:
            desk.fault_point("after_bar_before_booking")
            await self._recovery.pull_trades()
        desk.books.see_close(bar.instrument, close, bar.close_time_ns)
        await desk.publisher.flush()

    async def _close_step(self, closed: BarsClosed) -> None:
        desk = self._desk
        if closed.close_time_ns >= desk.books.closed_ns:
            await desk.venue.on_bars_closed(closed)
            desk.books.close_step(closed.close_time_ns, closed.instruments)
            desk.host.advance_clock(closed.close_time_ns)
            await desk.publisher.flush(repeat_snapshot=True)
        desk.host.report_progress(desk.books.closed_ns)
        await desk.wake()
