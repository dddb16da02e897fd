"""An account's own events on their way to its ws-api connections.

In: the venue's events, subscriptions. Out: executionReport, outboundAccountPosition, balanceUpdate, and the end of a
subscription. Never: another account's event; a position that tells less than the reports before it.
"""

import asyncio
from collections.abc import Callable

import msgspec

from services.sandbox_exchange.binance import reports
from services.sandbox_exchange.binance.memory import Memory
from services.sandbox_exchange.binance.sockets import BinanceSocket
from services.sandbox_exchange.binance.words import Payload, milliseconds
from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.core.model import Event, Holding, HoldingChanged, OrderChanged
from services.sandbox_exchange.wire.context import Venue

TRADING_REASONS = {"trade", "fee"}
EXPIRY_TICK_S = 0.1


class Subscription(msgspec.Struct, frozen=True, eq=False):
    """Hold one subscription of a connection; `on_end` is called when the venue ends it."""

    number: int
    account: str
    socket: BinanceSocket
    on_end: Callable[[int], None]


class UserStreams:
    """Hold every subscription of one venue."""

    def __init__(self, venue: Venue, memory: Memory) -> None:
        self._venue, self._memory = venue, memory
        self._by_account: dict[str, list[Subscription]] = {}
        self._events: list[OrderChanged | HoldingChanged] = []
        self._task: asyncio.Task[None] | None = None
        venue.exchange.listen(self._on_event)

    def add(self, subscription: Subscription) -> None:
        """Send an account's events from now on."""
        self._by_account.setdefault(subscription.account, []).append(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._expire_forever())

    def remove(self, subscription: Subscription) -> None:
        """Send nothing more; a subscription that has ended already is no error."""
        kept = [one for one in self._by_account.get(subscription.account, []) if one is not subscription]
        self._by_account.pop(subscription.account, None)
        if kept:
            self._by_account[subscription.account] = kept

    def end(self, subscription: Subscription) -> None:
        """End a subscription and say so."""
        self._tell([subscription], {"e": "eventStreamTerminated", "E": milliseconds(self._venue.now_ns())}, None)
        self.remove(subscription)
        subscription.on_end(subscription.number)

    def _on_event(self, event: Event) -> None:
        if type(event) is OrderChanged:
            account = event.order.account
        elif type(event) is HoldingChanged:
            account = event.account
        else:
            return
        if account not in self._by_account:
            return
        if not self._events:
            # The request's own answer goes out first: events follow in the loop's next turn.
            asyncio.get_running_loop().call_soon(self._hand_out)
        self._events.append(event)

    def _hand_out(self) -> None:
        events, self._events = self._events, []
        now_ms = milliseconds(self._venue.now_ns())
        positions: dict[str, dict[str, Holding]] = {}
        for event in events:
            if isinstance(event, OrderChanged):
                order = event.order
                canceled_by = self._memory.canceled_by(order.order_id)
                report = reports.execution_report(order, event.trade, canceled_by, now_ms)
                self._tell(self._by_account.get(order.account, []), report, order.symbol)
                continue
            positions.setdefault(event.account, {})[event.holding.asset] = event.holding
            if not event.locked_change and event.reason not in TRADING_REASONS:
                update = reports.balance_update(event.holding.asset, event.free_change, event.time_ns, now_ms)
                self._tell(self._by_account.get(event.account, []), update, None)
        for account, holdings in positions.items():
            time_ns = events[-1].time_ns if isinstance(events[-1], HoldingChanged) else self._venue.now_ns()
            position = reports.account_position(list(holdings.values()), time_ns, now_ms)
            self._tell(self._by_account.get(account, []), position, None)

    def _tell(self, subscriptions: list[Subscription], payload: Payload, symbol: str | None) -> None:
        if not subscriptions:
            return
        event = msgspec.json.encode(payload).decode()
        for one in tuple(subscriptions):
            text = f'{{"subscriptionId":{one.number},"event":{event}}}'
            one.socket.post(text, route=str(payload["e"]), symbol=symbol, report=True)

    async def _expire_forever(self) -> None:
        while self._by_account:
            await asyncio.sleep(EXPIRY_TICK_S)
            for one in [one for group in self._by_account.values() for one in group]:
                if self._venue.take(FaultName.LISTEN_KEY_EXPIRED, route="userDataStream"):
                    self.end(one)
