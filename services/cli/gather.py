"""Read from the streams what a summary is made of.

In: a connected bus. Out: the run's messages, by kind. Never: a partial list taken for the whole (an error is raised).
"""

from services.cli.client import whole_history
from services.cli.summary import RunMessages
from shared.bus import streams, subjects
from shared.bus.port import Bus
from shared.config import StackConfig
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    DecisionRecord,
    Message,
    OrderEvent,
    OrderIntent,
    OrderRefused,
)


async def gather_run(bus: Bus, stack: StackConfig) -> RunMessages:
    """Return everything that `summarise` needs; raises BusUnavailableError when a stream cannot be read."""
    bar_subjects = [subjects.bar(stack.timeframe, stack.venue, asset) for asset in stack.assets]
    first_bars: list[Bar] = []
    last_bars: list[Bar] = []
    for subject in bar_subjects:
        first = await bus.history(streams.MD_BARS, subject, limit=1)
        last = await bus.last(streams.MD_BARS, subject)
        first_bars += [delivery.message for delivery in first if isinstance(delivery.message, Bar)]
        if last is not None and isinstance(last.message, Bar):
            last_bars.append(last.message)
    closed = await bus.last(streams.MD_BARS, subjects.bars_closed(stack.timeframe, stack.venue))
    return RunMessages(
        accounts=await _all(bus, streams.ACCOUNTS, subjects.account(stack.venue), AccountSnapshot),
        decisions=await _all(bus, streams.DECISIONS, "decision.>", DecisionRecord),
        intents=await _all(bus, streams.ORDERS, "ord.intent.>", OrderIntent),
        events=await _all(bus, streams.ORDERS, "ord.event.>", OrderEvent),
        refusals=await _all(bus, streams.ORDERS, "ord.refused.>", OrderRefused),
        first_bars=first_bars,
        last_bars=last_bars,
        steps=closed.message.step if closed is not None and isinstance(closed.message, BarsClosed) else 0,
    )


async def _all[M: Message](bus: Bus, stream: str, subject: str, kind: type[M]) -> list[M]:
    deliveries = [delivery async for delivery in whole_history(bus, stream, subject)]
    return [delivery.message for delivery in deliveries if isinstance(delivery.message, kind)]
