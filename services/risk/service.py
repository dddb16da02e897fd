"""The gate at work: receive intents, events, snapshots and bars; judge; publish one verdict for each intent.

In: `ord.intent.*` and `ord.event.*` through one consumer, so in the order of their stream; `acct.*`, closed bars,
`risk.halt`. Out: `ord.approved.*`, `ord.refused.*`, `decision.risk.*`, `risk.state`, progress.
Never: a verdict published before it is kept, a second verdict on one intent, a verdict on an account that lags behind
the order events before the intent, a wall clock in a decision of the sandbox.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from services.risk.core.checks import Approval
from services.risk.core.checks_order import CLOCK_SKEW_MAX_NS, is_intent_id
from services.risk.core.explain import record_of
from services.risk.core.gate import Verdict
from services.risk.core.refusal import Refusal, refuse
from services.risk.desk import NAME, OperatorDesk, RiskReport
from services.risk.memory import GateMemory
from services.risk.recovery import rebuild
from services.risk.store import RiskStore, StoredVerdict
from services.risk.telemetry import Telemetry
from services.risk.trading import TradingSwitch
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.bus.streams import ACCOUNTS, MD_BARS, ORDERS, RISK
from shared.clock import Clock
from shared.errors import DeferError, UnavailableError
from shared.logs import Log
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Bbo,
    InstrumentDefinition,
    MarketStatus,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    RefusalCode,
    RiskHalt,
)
from shared.metrics import Metrics

# A refusal for one of these may rest on a snapshot that is not the newest: it is fetched before anybody is refused.
ACCOUNT_CODES = frozenset(
    {
        RefusalCode.BALANCE,
        RefusalCode.BALANCE_UNKNOWN,
        RefusalCode.RESERVE_FLOOR,
        RefusalCode.POSITION_LIMIT,
        RefusalCode.TRADING_REDUCING,
    }
)
DETAIL_LENGTH_MAX = 4_096


class Setting(msgspec.Struct, frozen=True):
    """Say where the gate stands. `is_market_time`: time is the bars' time and nothing else is looked at (sandbox)."""

    venue: str
    timeframe: str
    assets: tuple[str, ...]
    is_market_time: bool
    start_active: bool


class Surroundings(Protocol):
    """Be what the lifecycle gives a service."""

    bus: Bus
    clock: Clock
    metrics: Metrics
    log: Log

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on."""
        ...

    def report_progress(self, close_time_ns: int) -> None:
        """Say that everything up to a market time is finished."""
        ...

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run something beside the service."""
        ...


class RiskService:
    """Be the one gate of a venue's orders. `damage` says why the database of before could not be read, if so."""

    def __init__(
        self, around: Surroundings, setting: Setting, memory: GateMemory, store: RiskStore, damage: str | None = None
    ) -> None:
        self._around, self._setting, self._memory, self._store, self._damage = around, setting, memory, store, damage
        self._bus, self._gate = around.bus, memory.gate
        self._telemetry = Telemetry(around.metrics, around.log)
        self._switch = TradingSwitch(around.bus, store, around.log)
        self._desk = OperatorDesk(around.bus, self._switch, self._telemetry, self.report)
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
        if not self._setting.is_market_time:
            # Quotes are lossy and come when they come: in a replay they would make verdicts depend on the moment.
            self._subscriptions.append(await bus.subscribe(subjects.bbo(venue, "*"), self._on_quote))

    async def _on_halt(self, delivery: Delivery) -> None:
        self._switch.obey(delivery.message if isinstance(delivery.message, RiskHalt) else None)
        self._telemetry.trading_state(self._switch.in_force)
        await self._switch.announce()

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
            self._around.report_progress(closed_ns)

    async def _on_account(self, delivery: Delivery) -> None:
        message = delivery.message
        if not isinstance(message, AccountSnapshot) or message.venue != self._setting.venue:
            self._telemetry.ignored("account")
            return
        self._telemetry.account_seen()
        if not self._memory.on_snapshot(message):
            self._telemetry.ignored("account")

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
            stored = await self._decide(intent, delivery, key)
        else:
            self._telemetry.repeated()
        await self._publish(stored, key)

    async def _decide(self, intent: OrderIntent, delivery: Delivery, key: str) -> StoredVerdict:
        strategy = delivery.subject.split(".")[2]
        verdict = await self._verdict(intent, delivery.subject)
        # From here to the end of `save` nothing is awaited: what was judged by is what is kept.
        result = verdict.result
        if isinstance(result, Approval):
            stored = StoredVerdict(result.message, None)
        else:
            refused = OrderRefused(
                intent_id=intent.intent_id,
                strategy=strategy,
                venue=self._setting.venue,
                instrument=intent.instrument[:DETAIL_LENGTH_MAX],
                correlation_id=intent.correlation_id[:DETAIL_LENGTH_MAX],
                code=result.code,
                detail=result.detail[:DETAIL_LENGTH_MAX],
                refused_at_ns=verdict.view.now_ns,
            )
            record = record_of(intent, strategy, verdict.view, self._gate.limits, result)
            stored = StoredVerdict(refused, record)
        self._memory.save(key, verdict, stored, delivery.stream_sequence)
        self._telemetry.verdict(result)
        return stored

    async def _verdict(self, intent: OrderIntent, subject: str) -> Verdict:
        if not _is_subject_of(intent, subject):
            view = self._gate.view(intent.instrument, self._switch.in_force, self._around.clock.now_ns())
            return Verdict(view, refuse(RefusalCode.INTENT_MALFORMED, f"published on {subject}, which is not its own"))
        await self._until_market_time(intent)
        verdict = self._judge(intent)
        if verdict is None or (isinstance(verdict.result, Refusal) and verdict.result.code in ACCOUNT_CODES):
            # What the strategy has seen was stored before it published the intent, so this is at least as new.
            await self._fetch_account()
            verdict = self._judge(intent)
        if verdict is None:
            self._telemetry.waits(intent.intent_id, "an account snapshot with all order events so far")
            raise DeferError("no account snapshot has everything that the order events told")
        return verdict

    def _judge(self, intent: OrderIntent) -> Verdict | None:
        return self._gate.judge(intent, self._switch.in_force, self._around.clock.now_ns())

    async def _until_market_time(self, intent: OrderIntent) -> None:
        now_ns = self._around.clock.now_ns()
        if intent.decided_at_ns <= now_ns:
            return
        if self._setting.is_market_time:
            # Whoever decides on a step has seen its end in the stream. A later time than the stream's is a mistake,
            # which the checks refuse; waiting for it would block everything behind it.
            subject = subjects.bars_closed(self._setting.timeframe, self._setting.venue)
            last = await self._bus.last(MD_BARS, subject)
            newest_ns = last.message.close_time_ns if last and isinstance(last.message, BarsClosed) else 0
        else:
            newest_ns = now_ns + CLOCK_SKEW_MAX_NS
        if intent.decided_at_ns <= newest_ns and intent.decided_at_ns > self._around.clock.now_ns():
            self._telemetry.waits(intent.intent_id, "the market time that it was decided at")
            raise DeferError("market time has not reached the decision's")

    async def _fetch_account(self) -> None:
        last = await self._bus.last(ACCOUNTS, subjects.account(self._setting.venue))
        if last is not None and isinstance(last.message, AccountSnapshot):
            self._memory.on_snapshot(last.message)

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


def verdict_key(intent: OrderIntent, subject: str) -> str:
    """Return the id under which the verdict is kept and published: the intent's own, where that can be one.

    An intent that came on a subject of somebody else's cannot take the verdict of the one whose id it carries.
    """
    if is_intent_id(intent.intent_id) and _is_subject_of(intent, subject):
        return intent.intent_id
    return f"foreign-{hashlib.sha256(f'{subject} {intent.intent_id}'.encode()).hexdigest()}"


def _is_subject_of(intent: OrderIntent, subject: str) -> bool:
    return subject == f"ord.intent.{intent.strategy}.{intent.venue}.{intent.instrument}"
