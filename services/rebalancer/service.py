"""The rebalancer's loop: receive, decide, store, publish, acknowledge.

Bars, order events and account snapshots come in on three durable consumers; one lock makes them one sequence. A
decision is stored before anything of it is published, and what is stored is published again after a crash, under the
same ids. Never: a decision before an account snapshot, or on one that lags behind the order events already seen.
"""

import asyncio
from collections.abc import Callable
from decimal import Decimal

import structlog
from msgspec.structs import replace

from services.rebalancer.commands import CommandDesk
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import (
    AccountSeen,
    BarsArrived,
    Decision,
    Inputs,
    IntentRefused,
    MachineEvent,
    OrderChanged,
    Outcome,
    Params,
    RebalancerState,
    Resumed,
    Status,
    decide,
    record_of,
    status_of,
)
from services.rebalancer.market import OpenSteps, holdings_of, is_newer
from services.rebalancer.memory import Remembered, StateMemory
from services.rebalancer.telemetry import Telemetry
from services.rebalancer.trading import TradingWatch
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.bus.streams import ACCOUNTS, MD_BARS, ORDERS, STATE_BUCKET
from shared.clock import Clock, MarketClock, monotonic_ns
from shared.errors import DeferError, IntegrityError
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    DecisionRecord,
    InstrumentDefinition,
    Message,
    OrderEvent,
    OrderIntent,
    OrderRefused,
)

DURABLE = "rebalancer"
DEFER_S = 0.02
# A step's bars lie right before its BarsClosed; the port returns at most 1000 messages.
LOOK_BACK = 900

_log = structlog.get_logger(__name__)


class RebalancerService:
    """Run one strategy on one venue. `config.assets` are bus tokens; `quote` is the asset that money is counted in."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        config: RebalanceConfig,
        venue: str,
        timeframe: str,
        quote: str = "USDT",
        report_progress: Callable[[int], None] = lambda _: None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._venue = venue
        self._timeframe = timeframe
        self._quote = quote
        self._report_progress = report_progress
        self._telemetry = telemetry
        self._params = Params(config, venue, {})
        self._state = RebalancerState()
        self._account: AccountSnapshot | None = None
        self._steps = OpenSteps()
        self._trading = TradingWatch(bus)
        self._outbox: list[tuple[str, Message, str]] = []
        self._lock = asyncio.Lock()
        self._memory: StateMemory | None = None
        self._subscriptions: list[Subscription] = []

    @property
    def state(self) -> RebalancerState:
        """Return the newest stored state."""
        return self._state

    def status(self, trading_state: str | None = None) -> Status:
        """Return what an operator sees, as of the newest close."""
        account, assets = self._account, self._params.config.assets
        holdings = None if account is None else holdings_of(account, assets, self._quote)
        return status_of(self._state, self._params, holdings, trading_state)

    async def start(self) -> None:
        """Recover: read state, grids and account, publish what a crash may have held back, then consume."""
        config = self._params.config
        self._memory = StateMemory(await self._bus.key_value(STATE_BUCKET), f"rebalancer.{config.strategy}")
        remembered = await self._memory.load()
        self._state = remembered.state
        self._advance_clock(self._state.last_close_ns)
        await self._recall_instruments()
        account = await self._bus.last(ACCOUNTS, subjects.account(self._venue))
        if remembered.record is not None:
            self._queue_record(remembered.record)
        await self._handle(Resumed())
        if account is not None:
            await self.on_account(account)
        self._subscriptions = [
            await self._trading.open(),
            await self._bus.consume(ORDERS, DURABLE, self.on_order, filters=self._order_filters()),
            await self._bus.consume(ACCOUNTS, DURABLE, self.on_account, filters=(subjects.account(self._venue),)),
            await self._bus.consume(MD_BARS, DURABLE, self.on_market, filters=self._market_filters()),
        ]
        self._subscriptions += await CommandDesk(self._bus, self._handle, lambda: self._state, self.status).open()

    async def drain(self) -> None:
        """Finish the message in hand and take no more; everything else is stored already."""
        for subscription in self._subscriptions:
            await subscription.stop()
        self._subscriptions = []

    async def on_market(self, delivery: Delivery) -> None:
        """Handle an instrument, a bar, or the end of a step; raises DeferError while the account is not known."""
        match delivery.message:
            case InstrumentDefinition() as definition:
                self._define(definition)
            case Bar() as bar:
                if bar.close_time_ns > self._state.last_close_ns:
                    self._steps.add(bar)
            case BarsClosed() as closed:
                await self._on_step(closed, delivery.stream_sequence)

    async def on_order(self, delivery: Delivery) -> None:
        """Handle an order event or a refusal."""
        match delivery.message:
            case OrderEvent() as event:
                await self._handle(OrderChanged(event))
            case OrderRefused() as refusal:
                await self._handle(IntentRefused(refusal))

    async def on_account(self, delivery: Delivery) -> None:
        """Handle an account snapshot; one that is older than the newest is ignored."""
        message = delivery.message
        if isinstance(message, AccountSnapshot) and is_newer(message, self._account):
            self._account = message
            await self._handle(AccountSeen(message.ledger_sequence))

    async def _on_step(self, closed: BarsClosed, stream_sequence: int) -> None:
        if closed.close_time_ns <= self._state.last_close_ns:
            # The last step once more: its decision is stored, but a crash may have come before it was published.
            await self._flush_alone()
            return
        account = self._account
        if account is None:
            raise DeferError("no account snapshot has been seen yet", delay_s=DEFER_S)
        if account.ledger_sequence < self._state.ledger_sequence_needed:
            raise DeferError("the account snapshot lags behind the order events", delay_s=DEFER_S)
        self._advance_clock(closed.close_time_ns)
        assets = self._params.config.assets
        closes = await self._closes(closed, stream_sequence)
        holdings = holdings_of(account, assets, self._quote)
        volumes = self._steps.volumes(closed.close_time_ns) if self._params.config.wants_volumes else {}
        withheld = await self._trading.why_not()
        await self._handle(BarsArrived(closed.close_time_ns, closes, holdings, volumes, withheld))
        self._steps.forget(closed.close_time_ns)

    async def _closes(self, closed: BarsClosed, stream_sequence: int) -> dict[str, Decimal]:
        markets = self._markets()
        closes = self._steps.closes(closed.close_time_ns)
        if any(market not in closes for market in markets if market in closed.instruments):
            # This process was started between a step's bars and its end: the stream still has them.
            start = max(1, stream_sequence - LOOK_BACK)
            stored = await self._bus.history(MD_BARS, self._bar_subject(), start_sequence=start, limit=LOOK_BACK + 1)
            for each in stored:
                if isinstance(each.message, Bar) and each.message.close_time_ns == closed.close_time_ns:
                    self._steps.add(each.message)
            closes = self._steps.closes(closed.close_time_ns)
        return {market: closes[market] for market in markets if market in closes}

    async def _handle(self, event: MachineEvent) -> Decision:
        async with self._lock:
            await self._flush()
            started_ns = monotonic_ns()
            now_ns = max(self._clock.now_ns(), self._state.last_close_ns)
            inputs = Inputs(self._state, event, self._params, now_ns)
            outcome = Outcome(*decide(inputs.state, inputs.event, inputs.params, inputs.now_ns))
            record = record_of(inputs, outcome)
            if record is not None or _differs(inputs.state, outcome.state):
                await self._store(Remembered(outcome.state, record))
            self._state = outcome.state
            self._outbox += [self._addressed(intent) for intent in outcome.decision.intents]
            if record is not None:
                self._queue_record(record)
            seconds = (monotonic_ns() - started_ns) / 1_000_000_000
            try:
                await self._flush()
            finally:
                # Counting and logging take as long as the decision did: nobody's order waits for them.
                self._tell(outcome, seconds)
            return outcome.decision

    def _tell(self, outcome: Outcome, seconds: float) -> None:
        if self._telemetry is not None:
            self._telemetry.count(outcome.state, outcome.decision, seconds)
        if outcome.decision.intents:
            _log.info("intents", plan=outcome.decision.plan_id, notes=outcome.decision.notes)

    async def _flush_alone(self) -> None:
        async with self._lock:
            await self._flush()

    async def _flush(self) -> None:
        """Publish what is stored but not published; on failure it stays queued and the bus delivers again."""
        if self._outbox:
            await self._bus.publish_all(self._outbox)
            self._outbox = []
        if self._state.finished_ns:
            self._report_progress(self._state.finished_ns)

    async def _store(self, remembered: Remembered) -> None:
        if self._memory is None:
            raise IntegrityError("the rebalancer decides only after start has read its state")
        await self._memory.store(remembered)

    def _queue_record(self, record: DecisionRecord) -> None:
        subject = subjects.decision("rebalancer", record.strategy)
        self._outbox.append((subject, record, record.decision_id))

    def _addressed(self, intent: OrderIntent) -> tuple[str, Message, str]:
        subject = subjects.order_intent(intent.strategy, intent.venue, intent.instrument)
        return subject, intent, intent.intent_id

    async def _recall_instruments(self) -> None:
        for market in self._markets():
            stored = await self._bus.last(MD_BARS, subjects.instrument(self._venue, market))
            if stored is not None and isinstance(stored.message, InstrumentDefinition):
                self._define(stored.message)

    def _define(self, definition: InstrumentDefinition) -> None:
        instrument = definition.instrument
        if instrument.symbol in self._markets():
            instruments = self._params.instruments | {instrument.symbol: instrument}
            self._params = replace(self._params, instruments=instruments)

    def _markets(self) -> tuple[str, ...]:
        # A plan under way may hold markets that the basket has lost since.
        plan = self._state.plan
        held = plan.portfolio.assets if plan is not None else ()
        return tuple(dict.fromkeys((*self._params.config.assets, *held)))

    def _advance_clock(self, to_ns: int) -> None:
        if isinstance(self._clock, MarketClock):
            self._clock.advance(to_ns)

    def _bar_subject(self) -> str:
        return f"md.bar.{subjects.token(self._timeframe)}.{subjects.token(self._venue)}.*"

    def _market_filters(self) -> tuple[str, ...]:
        definitions = f"md.instrument.{subjects.token(self._venue)}.*"
        return definitions, self._bar_subject(), subjects.bars_closed(self._timeframe, self._venue)

    def _order_filters(self) -> tuple[str, ...]:
        strategy = self._params.config.strategy
        return f"ord.event.{subjects.token(strategy)}.>", subjects.order_refused(strategy)


def _differs(before: RebalancerState, after: RebalancerState) -> bool:
    """Tell whether anything changed that the streams would not tell a restarted process again."""
    return replace(before, ledger_sequence_seen=0) != replace(after, ledger_sequence_seen=0)
