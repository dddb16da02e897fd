"""The market as execution sees it: closed bars for a simulated venue, marks for the account.

In: instruments, bars and step ends, in the stream's order, any of them twice. Out: fills of resting orders, the account
at each step's end, progress. Never: a bar that fills twice, a price that no market can have.
"""

from services.execution.desk import Desk
from services.execution.recovery import Recovery
from shared.bus import subjects
from shared.bus.port import Delivery
from shared.bus.streams import MD_BARS
from shared.domain.money import money_of
from shared.errors import InputError
from shared.messages import Bar, BarsClosed, InstrumentDefinition

# A step's bars lie right before its end; the port returns at most 1000 messages.
LOOK_BACK = 900


class MarketInput:
    """Handle the durable market stream."""

    def __init__(self, desk: Desk, recovery: Recovery) -> None:
        self._desk = desk
        self._recovery = recovery
        self._taken: dict[str, int] = {}

    async def on_market(self, delivery: Delivery) -> None:
        """Take one message of the market stream; those of other venues are not ours."""
        message = delivery.message
        async with self._desk.turn:
            if isinstance(message, Bar) and message.venue == self._desk.venue.venue:
                await self._take_bar(message)
            elif isinstance(message, BarsClosed) and message.venue == self._desk.venue.venue:
                await self._close_step(message, delivery.stream_sequence)
            elif isinstance(message, InstrumentDefinition) and message.venue == self._desk.venue.venue:
                await self._define(message)

    async def _define(self, definition: InstrumentDefinition) -> None:
        if self._desk.simulated is not None:
            await self._desk.simulated.define_instrument(definition.instrument)

    async def _take_bar(self, bar: Bar) -> None:
        desk = self._desk
        self._taken[bar.instrument] = max(bar.close_time_ns, self._taken.get(bar.instrument, 0))
        try:
            trades = () if desk.simulated is None else await desk.simulated.on_bar(bar)
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

    async def _close_step(self, closed: BarsClosed, stream_sequence: int) -> None:
        desk = self._desk
        if closed.close_time_ns >= desk.books.closed_ns:
            await self._recall_bars(closed, stream_sequence)
            if desk.simulated is not None:
                await desk.simulated.on_bars_closed(closed)
            desk.books.close_step(closed.close_time_ns, closed.instruments)
            desk.host.advance_clock(closed.close_time_ns)
            await desk.publisher.flush(repeat_snapshot=True)
        if not desk.books.is_opened and desk.simulated is None:
            # The books of an account that holds a market's asset open with the market's first price.
            desk.look_again.set()
        desk.host.report_progress(desk.books.closed_ns)
        await desk.wake()

    async def _recall_bars(self, closed: BarsClosed, stream_sequence: int) -> None:
        """Take the step's bars that another process took, from the stream.

        Single bars are not synced to the disk, only the end of their step is: what a power cut took comes back here.
        """
        at_ns = closed.close_time_ns
        others = {name for name in closed.instruments if self._taken.get(name, 0) < at_ns}
        if not others:
            return
        subject = subjects.bar(closed.timeframe, closed.venue, "X").removesuffix("X") + "*"
        start = max(1, stream_sequence - LOOK_BACK)
        stored = await self._desk.bus.history(MD_BARS, subject, start_sequence=start, limit=LOOK_BACK + 1)
        for each in stored:
            if (
                isinstance(each.message, Bar)
                and each.message.close_time_ns == at_ns
                and each.message.instrument in others
            ):
                await self._take_bar(each.message)
