"""The gate at work: receive intents, events, snapshots and bars; judge; publish one verdict for each intent.

In: `ord.intent.*` and `ord.event.*` through one consumer, so in the order of their stream; `acct.*`, closed bars,
`risk.halt`. Out: `ord.approved.*`, `ord.refused.*`, `decision.risk.*`, `risk.state`, progress.
Never: a verdict published before it is kept, a second verdict on one intent, a verdict on an account that lags behind
the order events before the intent, a wall clock in a decision of the sandbox.
"""

import asyncio
import contextlib

from services.risk.desk import NAME, OperatorDesk, RiskReport
from services.risk.judging import Judging, verdict_key
from services.risk.memory import GateMemory
from services.risk.peers import Peers
from services.risk.recovery import rebuild
from services.risk.store import RiskStore, StoredVerdict
from services.risk.surroundings import Setting, Surroundings
from services.risk.telemetry import Telemetry
from services.risk.trading import TradingSwitch
from shared.bus import subjects
from shared.bus.port import Delivery, Subscription
from shared.bus.streams import ACCOUNTS, MD_BARS, ORDERS, RISK
from shared.errors import UnavailableError
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Bbo,
    Heartbeat,
    InstrumentDefinition,
    MarketStatus,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    RiskHalt,
)


class RiskService:
    """Be the one gate of a venue's orders. `damage` says why the database of before could not be read, if so."""

    def __init__(
        self, around: Surroundings, setting: Setting, memory: GateMemory, store: RiskStore, damage: str | None = None
    ) -> None:
        self._around, self._setting, self._memory, self._store, self._damage = around, setting, memory, store, damage
        self._bus, self._gate = around.bus, memory.gate
        self._telemetry = Telemetry(around.metrics, around.log)
        self._switch = TradingSwitch(around.bus, store, around.log)
        self._peers = Peers() if setting.is_real_money else None
        self._desk = OperatorDesk(around.bus, self._switch, self._telemetry, self.report, self._peers)
        self._judging = Judging(around, setting, memory, self._switch, self._telemetry)
        self._subscriptions: list[Subscription] = []
        self._announcer: asyncio.Task[None] | None = None

    def report(self) -> RiskReport:
        """Return what may be sent, who said so, and what was done since the start."""
        state, snapshot = self._switch.state, self._gate.book.snapshot()
        return RiskReport(
            state=state.state,
            changed_by=state.changed_by,
            reason=state.reason,
            changed_at_ns=state.changed_at_ns,
            market_time_ns=self._gate.market.closed_ns,
            open_orders=sum(order.is_open for order in self._gate.book.orders.values()),
            ledger_sequence=None if snapshot is None else snapshot.ledger_sequence,
            waiting_for=self._telemetry.waiting_for,
            verdicts=self._telemetry.counts,
            frozen=dict(self._gate.market.frozen),
        )

    async def start(self) -> None:
        """Restore the trading state and the gate, announce the state, then take work."""
        await self._switch.restore(start_active=self._setting.start_active, damage=self._damage)
        self._telemetry.trading_state(self._switch.in_force)
        await rebuild(self._memory, self._bus, self._setting.venue, self._setting.timeframe, self._setting.assets)
        closed_ns = self._gate.market.closed_ns
        self._around.advance_clock(closed_ns)
        with contextlib.suppress(UnavailableError):
            await self._switch.announce()
        self._announcer = self._around.spawn(self._switch.announce_forever(), "announce")
        await self._subscribe()
        if closed_ns:
            self._around.report_progress(closed_ns)

    async def drain(self) -> None:
        """Finish what is being handled and close the database."""
        for subscription in self._subscriptions:
            await subscription.stop()
        if self._announcer is not None:
            self._announcer.cancel()
        self._store.close()

    async def _subscribe(self) -> None:
        bus, venue, timeframe = self._bus, self._setting.venue, self._setting.timeframe
        self._subscriptions = await self._desk.open()
        self._subscriptions += [
            await bus.consume(RISK, "risk-halts", self._on_halt, filters=(subjects.RISK_HALT,)),
            await bus.subscribe(subjects.status(venue), self._on_status),
            await bus.consume(
                MD_BARS,
                "risk-bars",
                self._on_market,
                filters=(
                    f"md.instrument.{venue}.*",
                    f"md.bar.{timeframe}.{venue}.*",
                    subjects.bars_closed(timeframe, venue),
                ),
            ),
            await bus.consume(ACCOUNTS, "risk-accounts", self._on_account, filters=(subjects.account(venue),)),
            await bus.consume(
                ORDERS, "risk-orders", self._on_order, filters=(f"ord.event.*.{venue}.*", f"ord.intent.*.{venue}.*")
            ),
        ]
        if self._peers is not None:
            self._subscriptions.append(await bus.subscribe("hb.>", self._on_heartbeat))
        if not self._setting.is_market_time:
            # Quotes are lossy and come when they come: in a replay they would make verdicts depend on the moment.
            self._subscriptions.append(await bus.subscribe(f"md.bbo.{venue}.*", self._on_quote))

    async def _on_halt(self, delivery: Delivery) -> None:
        self._switch.obey(delivery.message if isinstance(delivery.message, RiskHalt) else None)
        self._telemetry.trading_state(self._switch.in_force)
        await self._switch.announce()

    async def _on_heartbeat(self, delivery: Delivery) -> None:
        if self._peers is not None and isinstance(delivery.message, Heartbeat):
            self._peers.on_heartbeat(delivery.message)

    async def _on_status(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, MarketStatus) and delivery.message.venue == self._setting.venue:
            self._memory.on_market(delivery.message)

    async def _on_quote(self, delivery: Delivery) -> None:
        if isinstance(delivery.message, Bbo):
            self._gate.market.on_quote(delivery.message)

    async def _on_market(self, delivery: Delivery) -> None:
        message = delivery.message
        if not isinstance(message, InstrumentDefinition | Bar | BarsClosed) or message.venue != self._setting.venue:
            self._telemetry.ignored("market")
            return
        if not self._memory.on_market(message):
            self._telemetry.ignored("market")
        if isinstance(message, BarsClosed):
            closed_ns = self._gate.market.closed_ns
            self._around.advance_clock(closed_ns)
            self._telemetry.market_seen()
            self._judging.look_again()
            self._around.report_progress(closed_ns)

    async def _on_account(self, delivery: Delivery) -> None:
        message = delivery.message
        if not isinstance(message, AccountSnapshot) or message.venue != self._setting.venue:
            self._telemetry.ignored("account")
            return
        self._telemetry.account_seen()
        if not self._memory.on_snapshot(message):
            self._telemetry.ignored("account")
        self._judging.look_again()

    async def _on_order(self, delivery: Delivery) -> None:
        match delivery.message:
            case OrderEvent() as event if event.venue == self._setting.venue:
                self._memory.on_event(event, delivery.stream_sequence)
            case OrderIntent() as intent:
                await self._on_intent(intent, delivery)
            case _:
                self._telemetry.ignored("order")

    async def _on_intent(self, intent: OrderIntent, delivery: Delivery) -> None:
        key = verdict_key(intent, delivery.subject)
        stored = self._store.verdict(key)
        if stored is None:
            stored = await self._judging.decide(intent, delivery, key)
        else:
            self._telemetry.repeated()
        await self._publish(stored, key)

    async def _publish(self, stored: StoredVerdict, key: str) -> None:
        message = stored.message
        if isinstance(message, OrderRefused):
            refused = (subjects.order_refused(message.strategy), message, f"refused-{key}")
            if stored.record is None:
                await self._bus.publish_all([refused])
            else:
                journal = subjects.decision(NAME, message.strategy)
                await self._bus.publish_all([refused, (journal, stored.record, f"decision-risk-{key}")])
            return
        intent = message.intent
        subject = subjects.order_approved(intent.venue, intent.instrument)
        await self._bus.publish(subject, message, message_id=f"approved-{key}")
