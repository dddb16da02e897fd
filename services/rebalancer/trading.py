"""Whether a plan may be opened at all: the trading state as risk reports it.

In: `risk.state`, heard live, and read from its stream at the start. Out: why nothing may be opened, or nothing.
Never: a message of the bus for each step while trading is active; a halt kept in force because its end was not heard.
"""

from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.bus.streams import RISK
from shared.errors import UnavailableError
from shared.messages import RiskState, TradingState


class TradingWatch:
    """Know the newest trading state. Before risk has reported any, plans are opened and risk judges their orders."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._state: RiskState | None = None

    async def open(self) -> Subscription:
        """Begin to listen, then read what is in force."""
        subscription = await self._bus.subscribe(subjects.RISK_STATE, self._on_state)
        await self._read()
        return subscription

    async def why_not(self) -> str:
        """Return why no plan may be opened now, empty when one may be."""
        if not _reason(self._state):
            return ""
        try:
            # A connection that was lost may have lost the end of the halt.
            await self._read()
        except UnavailableError:
            return _reason(self._state)
        return _reason(self._state)

    async def _read(self) -> None:
        last = await self._bus.last(RISK, subjects.RISK_STATE)
        if last is not None:
            await self._on_state(last)

    async def _on_state(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, RiskState):
            self._state = delivery.message


def _reason(state: RiskState | None) -> str:
    if state is None or state.state is TradingState.ACTIVE:
        return ""
    return f"trading is {state.state.value.upper()} by {state.changed_by} ({state.reason}): no plan until it is resumed"
