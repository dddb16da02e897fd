"""The risk service on an in-memory broker, with a feed, an execution that fills at once, and a way to kill it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import structlog

from services.risk.config import RiskConfig
from services.risk.memory import open_memory
from services.risk.service import RiskService
from services.risk.surroundings import Setting
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery, PublishAck
from shared.bus.streams import BUCKETS, ORDERS, STREAMS
from shared.clock import Clock, MarketClock
from shared.errors import DecodeError
from shared.logs import Log
from shared.messages import (
    AnyMessage,
    Command,
    CommandReply,
    InstrumentDefinition,
    Message,
    OrderApproved,
    OrderIntent,
    OrderRefused,
    OrderState,
    Side,
    decode,
)
from shared.metrics import Metrics
from tests.unit.risk.worlds import NOW_NS, STEP_NS, VENUE, D, bar, closed, event, instrument, snapshot

SYMBOLS = ("A-USDT", "B-USDT")


class CrashingBus(MemoryBus):
    """Hang for ever at the `crash_at`-th publication of a message or lookup, before or after its effect."""

    crash_at: int | None = None
    after = False

    def __init__(self, broker: MemoryBroker, on_fatal: Callable[[BaseException], None]) -> None:
        super().__init__(broker, service="risk", on_fatal=on_fatal)
        self.calls = 0
        self.crashed = asyncio.Event()

    async def _perhaps_crash(self, *, after: bool) -> None:
        if self.calls == self.crash_at and self.after is after:
            self.crashed.set()
            await asyncio.Event().wait()

    async def publish(self, subject: str, message: Message, *, message_id: str, timeout_s: float = 5.0) -> PublishAck:
        self.calls += 1
        await self._perhaps_crash(after=False)
        ack = await super().publish(subject, message, message_id=message_id, timeout_s=timeout_s)
        await self._perhaps_crash(after=True)
        return ack

    async def last(self, stream: str, subject: str) -> Delivery | None:
        self.calls += 1
        await self._perhaps_crash(after=False)
        found = await super().last(stream, subject)
        await self._perhaps_crash(after=True)
        return found


class Around:
    """Be what the lifecycle gives the service."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.clock: Clock = MarketClock()
        self.metrics = Metrics("risk")
        self.log: Log = structlog.get_logger("risk")
        self.progress: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    def advance_clock(self, to_ns: int) -> None:
        assert isinstance(self.clock, MarketClock)
        self.clock.advance(to_ns)

    def report_progress(self, close_time_ns: int) -> None:
        self.progress.append(close_time_ns)

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type] - always a coroutine here
        self.tasks.append(task)
        return task


class Stage:
    """Hold the broker, the other services' part, and the risk service that lives now."""

    def __init__(
        self,
        path: Path,
        config: RiskConfig | None = None,
        *,
        start_active: bool = True,
        is_market_time: bool = True,
        is_real_money: bool = False,
    ) -> None:
        self.broker = MemoryBroker()
        self.path = path
        self.outside = MemoryBus(self.broker, service="outside")
        self.config = config or RiskConfig(position_limit=Decimal("0.9"))
        self.start_active = start_active
        self.is_market_time, self.is_real_money = is_market_time, is_real_money
        self.errors: list[BaseException] = []
        self.filled: set[str] = set()
        self.sequence = 1
        self.usdt = D(1_000)
        self.held = {"A": D(2), "B": D(0)}
        self.service: RiskService
        self.around: Around

    async def open(self, *, duplicate_window_s: float = 120.0) -> "Stage":
        await self.outside.connect()
        specs = tuple(msgspec.structs.replace(spec, duplicate_window_s=duplicate_window_s) for spec in STREAMS)
        await self.outside.bootstrap(specs, BUCKETS)
        return self

    async def start_risk(self, *, crash_at: int | None = None, after: bool = False) -> None:
        bus = CrashingBus(self.broker, self.errors.append)
        bus.crash_at, bus.after = crash_at, after
        await bus.connect()
        self.around = Around(bus)
        limits = self.config.limits("USDT", STEP_NS, is_exclusive=True)
        self.store, memory, damage = open_memory(self.path / "risk.db", limits)
        setting = Setting(
            VENUE, "15m", SYMBOLS, is_market_time=self.is_market_time, start_active=self.start_active,
            is_real_money=self.is_real_money,
        )  # fmt: skip
        self.service = RiskService(self.around, setting, memory, self.store, damage)
        starting = asyncio.create_task(self.service.start())
        hung = asyncio.create_task(bus.crashed.wait())
        await asyncio.wait({starting, hung}, return_when=asyncio.FIRST_COMPLETED)
        hung.cancel()
        if starting.done():
            starting.result()
        else:
            starting.cancel()

    def kill_risk(self) -> None:
        """Be kill -9: nothing is finished, nothing acknowledged, what was not committed is gone."""
        self.bus.kill()
        for task in self.around.tasks:
            task.cancel()
        self.store.close()

    async def stop(self) -> None:
        if not self.bus.crashed.is_set():
            await self.service.drain()
        await self.bus.close()
        await self.outside.close()
        assert not self.errors

    @property
    def bus(self) -> CrashingBus:
        bus = self.around.bus
        assert isinstance(bus, CrashingBus)
        return bus

    async def feed(self, at_ns: int = NOW_NS, close: float = 100.0) -> None:
        """Publish one step of the market, definitions first."""
        for symbol in SYMBOLS:
            definition = InstrumentDefinition(VENUE, instrument(symbol), 0)
            await self.send(subjects.instrument(VENUE, symbol), definition, f"def-{symbol}")
        for symbol in SYMBOLS:
            await self.send(subjects.bar("15m", VENUE, symbol), bar(symbol, close, at_ns), f"bar-{symbol}-{at_ns}")
        await self.send(subjects.bars_closed("15m", VENUE), closed(at_ns), f"closed-{at_ns}")

    async def account(self, at_ns: int = NOW_NS) -> None:
        """Publish the account as it is."""
        held = {asset: str(amount) for asset, amount in self.held.items()}
        message = snapshot(self.sequence, str(self.usdt), as_of_ns=at_ns, **held)
        await self.send(subjects.account(VENUE), message, f"acct-{self.sequence}-{at_ns}")

    async def execute(self) -> None:
        """Fill each approved order once, at the close, from now on."""
        await self.outside.consume(ORDERS, "execution", self._on_approved, filters=("ord.approved.>",))

    async def _on_approved(self, delivery: Delivery) -> None:
        approved = delivery.message
        assert isinstance(approved, OrderApproved)
        asked = approved.intent
        if asked.intent_id in self.filled:
            return
        self.filled.add(asked.intent_id)
        quantity = asked.quantity or (asked.quote_amount or D(0)) / 100
        sign = 1 if asked.side is Side.BUY else -1
        self.held[asked.instrument.split("-")[0]] += sign * quantity
        self.usdt -= sign * quantity * 100
        self.sequence += 1
        await self.tell(asked, OrderState.FILLED, str(quantity), str(quantity * 100))
        await self.account()

    async def tell(self, asked: OrderIntent, state: OrderState, quantity: str = "0", quote: str = "0") -> None:
        """Publish an event of an order."""
        message = event(asked.intent_id, state, self.sequence, quantity=quantity, quote=quote)
        subject = subjects.order_event(asked.strategy, VENUE, asked.instrument)
        await self.send(subject, message, message.event_id)

    async def intend(self, *intents: OrderIntent) -> None:
        """Publish intents as their strategy would."""
        for one in intents:
            await self.send(subjects.order_intent(one.strategy, one.venue, one.instrument), one, one.intent_id)

    async def send(self, subject: str, message: Message, message_id: str) -> None:
        await self.outside.publish(subject, message, message_id=message_id)

    def stored(self, stream: str, pattern: str) -> list[AnyMessage]:
        """Return what a stream holds on a subject."""
        found = []
        for frame in self.broker.stream(stream).matching(pattern, 1):
            with contextlib.suppress(DecodeError):
                found.append(decode(frame.payload))
        return found

    def verdicts(self) -> dict[str, list[OrderApproved | OrderRefused]]:
        """Return all verdicts by intent."""
        found: dict[str, list[OrderApproved | OrderRefused]] = {}
        for message in self.stored(ORDERS, "ord.>"):
            if isinstance(message, OrderApproved):
                found.setdefault(message.intent.intent_id, []).append(message)
            elif isinstance(message, OrderRefused):
                found.setdefault(message.intent_id, []).append(message)
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds or risk has hung or failed."""
        while not (condition() or self.bus.crashed.is_set() or self.errors):  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0)
        assert not self.errors, self.errors

    async def until_judged(self, count: int) -> None:
        await self.until(lambda: len(self.verdicts()) >= count)

    async def command(self, verb: str, reason: str = "because", user: str = "ann") -> CommandReply:
        """Ask as an operator."""
        asked = Command(verb, user, reason, f"c-{verb}-{reason}", "{}", 1)
        reply = await self.outside.request(subjects.command("risk", verb), asked)
        assert isinstance(reply, CommandReply)
        return reply
