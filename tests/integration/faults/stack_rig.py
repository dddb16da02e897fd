"""Market data, risk and execution over a sandbox venue, all real, in one event loop; a strategy is what the test asks.

The market moves by itself in small trades of the house, bars are of two seconds, time is the machine's.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from pathlib import Path

import msgspec
import structlog

from services.market_data.config import MarketDataConfig
from services.market_data.live import LiveMarketService
from services.risk.config import RiskConfig
from services.risk.memory import open_memory
from services.risk.service import RiskService
from services.risk.surroundings import Setting
from services.sandbox_exchange.admin_actions import MarketChange, change_market
from services.sandbox_exchange.app import RunningSandbox, start
from services.sandbox_exchange.config import SandboxConfig, Source, VenueName
from services.sandbox_exchange.core.model import HOUSE, OrderKind, PlaceOrder, Refusal
from shared.bus import subjects
from shared.bus.memory import MemoryBus
from shared.bus.streams import BUCKETS, DECISIONS, MD_BARS, ORDERS, RISK, STREAMS
from shared.clock import Clock, SystemClock, wall_ns
from shared.config import Mode, StackConfig, timeframe_ns
from shared.domain.instruments import floor_to_grid
from shared.exchange.live.config import WireConfig
from shared.logs import Log
from shared.messages import (
    BarsClosed,
    Command,
    CommandReply,
    DecisionRecord,
    OrderApproved,
    OrderRefused,
    OrderState,
    RiskState,
    Side,
    TimeInForce,
    TradingState,
)
from shared.metrics import Metrics
from tests.integration.faults.market_rig import make_market
from tests.integration.faults.rig import MARKET, TOKEN, SandboxRig
from tests.unit.execution.samples import intent

BAR = "2s"
# MEXC lets its list of markets be asked for twenty times in ten seconds, by everybody together.
PULSE_S, LISTING_S = 0.1, 2.0
OTHER = "ETH-USDT"


class Around:
    """Be what the lifecycle gives a service whose time is the machine's."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        self.bus = bus
        self.clock: Clock = SystemClock()
        self.metrics = Metrics(name)
        self.log: Log = structlog.get_logger(name)
        self.tasks: list[asyncio.Task[None]] = []

    def advance_clock(self, to_ns: int) -> None:
        """Do nothing: the machine's clock moves by itself."""

    def report_progress(self, close_time_ns: int) -> None:
        """Tell nobody."""

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work`."""
        del name
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]


class StackRig(SandboxRig):
    """Be a rig whose prices, halts and verdicts come from the services that give them."""

    def __init__(self, directory: Path, running: RunningSandbox) -> None:
        super().__init__(directory, running)
        self.timeframe, self.tokens = BAR, (TOKEN, OTHER)
        self.factor = Decimal(1)

    def wire_config(self) -> WireConfig:
        """Return how the account's side reaches the sandbox; it looks at the listing as often as the market's side."""
        return msgspec.structs.replace(super().wire_config(), listing_interval_s=LISTING_S)

    async def begin(self) -> None:
        """Start the services in the order of the flow, and wait until an order could be sent."""
        await self.outside.connect()
        await self.outside.bootstrap(STREAMS, BUCKETS)
        self.pulse = asyncio.create_task(self._pulse())
        await self._start_risk()
        await self._start_market()
        await self.start()
        await self.until_open()

    async def end(self) -> None:
        """End everything at once."""
        self.pulse.cancel()
        if not hasattr(self, "host"):
            return
        await self.crash()
        await self.market.drain()
        await self.risk.drain()
        for around in (self.risk_around, self.market_around):
            for task in around.tasks:
                task.cancel()
            await asyncio.gather(*around.tasks, return_exceptions=True)

    async def until_open(self) -> None:
        """Wait until prices are fresh, the account is reconciled and the market is live for risk."""
        steps = self.risk.report().market_time_ns

        def is_open() -> bool:
            report = self.risk.report()
            return bool(
                self.desk.is_reconciled
                and self.desk.books.closed_ns > steps
                and TOKEN in self.desk.books.marks()
                and report.market_time_ns > steps
                and TOKEN not in report.frozen
            )

        await self.until(is_open)

    async def step_on(self) -> None:
        """Wait for the end of the next step."""
        steps = self.risk.report().market_time_ns
        await self.until(lambda: self.risk.report().market_time_ns > steps)

    def is_frozen(self, words: str) -> bool:
        """Tell whether risk knows the market as frozen, for a reason with these words."""
        return words in self.risk.report().frozen.get(TOKEN, "")

    def change(self, action: str, factor: str | None = None) -> None:
        """Change the market as the venue's operator would."""
        made = msgspec.convert({"action": action, "factor": factor}, MarketChange, strict=False)
        change_market(self.running.venue, MARKET, made)

    async def ask(self, number: int, kind: str) -> OrderState | OrderRefused:
        """Publish an intent as a strategy would; return how its order came to rest, or why risk refused it."""
        tick, step = self._grid()
        closed = await self.newest_step()
        price = self.desk.books.marks().get(TOKEN) or self.best(Side.BUY)
        about = floor_to_grid(Decimal(200) / price, step)
        fields: dict[str, object] = {
            "quote": {"quote": "200"},
            "sell": {"side": Side.SELL, "quantity": str(floor_to_grid(about / 2, step))},
            "limit": {"quantity": str(about), "limit": str(floor_to_grid(price * Decimal("0.97"), tick))},
        }[kind]  # type: ignore[assignment] # three dictionaries of one kind
        wanted = msgspec.structs.replace(
            intent(number, hour=1, tif=TimeInForce.GTC, **fields),  # type: ignore[arg-type]
            venue=self.name, decided_at_ns=closed, expires_at_ns=wall_ns() + 60_000_000_000,
            correlation_id=f"plan-{number}",
        )  # fmt: skip
        subject = subjects.order_intent(wanted.strategy, wanted.venue, wanted.instrument)
        await self.outside.publish(subject, wanted, message_id=wanted.intent_id)
        while True:
            verdict = await self._verdict(wanted.intent_id)
            if isinstance(verdict, OrderRefused):
                return verdict
            if isinstance(verdict, OrderApproved):
                self.intents[number] = wanted
                open_states = (OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED) if kind == "limit" else ()
                return (await self.settled(number, states=open_states))[0]
            await asyncio.sleep(0.01)

    async def newest_step(self) -> int:
        """Return the close time of the newest step."""
        found = await self.outside.last(MD_BARS, subjects.bars_closed(BAR, self.name))
        assert found is not None
        assert isinstance(found.message, BarsClosed)
        return found.message.close_time_ns

    async def journal_notes(self, number: int) -> str:
        """Return what the decision journal says of an intent's refusal."""
        while True:
            for one in await self.outside.history(DECISIONS, ">", limit=10_000):
                if isinstance(one.message, DecisionRecord) and one.message.decision_id == f"risk-intent-{number}":
                    return " | ".join(one.message.notes)
            await asyncio.sleep(0.01)

    async def tell_risk(self, verb: str, reason: str) -> CommandReply:
        """Ask risk as an operator would."""
        return await self._command("risk", verb, reason)

    async def release(self) -> CommandReply:
        """Trust the market's price again."""
        return await self._command("market_data", "release", "the swap was seen", f'{{"instrument":"{TOKEN}"}}')

    async def trading_state(self) -> RiskState:
        """Return the state that risk announced last."""
        found = await self.outside.last(RISK, subjects.RISK_STATE)
        assert found is not None
        assert isinstance(found.message, RiskState)
        return found.message

    async def until_halted(self) -> str:
        """Wait until trading is halted, and return the reason that `cascade status` would show."""
        await self.until(lambda: self.desk.state is TradingState.HALTED)
        return (await self.trading_state()).reason

    def restock(self) -> None:
        """Put the house's orders back after a redenomination took them."""
        tick, step = self._grid()
        price = self.last_price * self.factor
        for side, away in ((Side.BUY, "0.999"), (Side.SELL, "1.001")):
            at = floor_to_grid(price * Decimal(away), tick)
            quantity = floor_to_grid(Decimal(1_000_000) / at, step)
            request = PlaceOrder(HOUSE, MARKET, side, OrderKind.LIMIT, quantity=quantity, price=at)
            self.exchange.place(request, self.running.venue.now_ns())

    async def _command(self, service: str, verb: str, reason: str, arguments: str = "{}") -> CommandReply:
        command = Command(verb, "alex", reason, f"c-{service}-{verb}-{wall_ns()}", arguments, wall_ns())
        reply = await self.outside.request(subjects.command(service, verb), command, timeout_s=5)
        assert isinstance(reply, CommandReply)
        return reply

    async def _verdict(self, intent_id: str) -> OrderApproved | OrderRefused | None:
        for one in await self.outside.history(ORDERS, "ord.>", limit=10_000):
            message = one.message
            if isinstance(message, OrderRefused) and message.intent_id == intent_id:
                return message
            if isinstance(message, OrderApproved) and message.intent.intent_id == intent_id:
                return message
        return None

    async def _pulse(self) -> None:
        side = Side.BUY
        while True:
            await asyncio.sleep(PULSE_S)
            side = Side.SELL if side is Side.BUY else Side.BUY
            for market in (MARKET, OTHER.replace("-", "")):
                self._trade(market, side)

    def _trade(self, market: str, side: Side) -> None:
        """Let the house trade with itself at the best price."""
        depth = self.exchange.depth(market, 1)
        if not depth.bids or not depth.asks:
            return
        price = (depth.asks if side is Side.BUY else depth.bids)[0][0]
        if market == MARKET:
            self.last_price = depth.bids[0][0] / self.factor
        quantity = floor_to_grid(Decimal(20) / price, self.exchange.markets[market].instrument.step_size)
        other = Side.SELL if side is Side.BUY else Side.BUY
        for one, force in ((other, TimeInForce.GTC), (side, TimeInForce.IOC)):
            request = PlaceOrder(
                HOUSE, market, one, OrderKind.LIMIT, quantity=quantity, price=price, time_in_force=force
            )
            with contextlib.suppress(Refusal):
                self.exchange.place(request, self.running.venue.now_ns())

    async def _start_risk(self) -> None:
        bus = MemoryBus(self.broker, service="risk", on_fatal=self.on_fatal)
        await bus.connect()
        self.risk_around = Around(bus, "risk")
        config = RiskConfig(position_limit=Decimal(1), duplicate_window_s=Decimal(1), stale_after_steps=Decimal(10))
        limits = config.limits("USDT", timeframe_ns(BAR), is_exclusive=True)
        store, memory, damage = open_memory(self.directory / "risk.db", limits)
        setting = Setting(self.name, BAR, self.tokens, is_market_time=False, start_active=True)
        self.risk = RiskService(self.risk_around, setting, memory, store, damage)
        await self.risk.start()

    async def _start_market(self) -> None:
        bus = MemoryBus(self.broker, service="market_data", on_fatal=self.on_fatal)
        await bus.connect()
        self.market_around = around = Around(bus, "market_data")
        stack = StackConfig(mode=Mode.SANDBOX, venue=self.name, assets=self.tokens, timeframe=BAR)
        market = make_market(self.running, listing_interval_s=LISTING_S)
        self.market = LiveMarketService(
            bus, market, stack, MarketDataConfig(), spawn=around.spawn, metrics=around.metrics, log=around.log
        )
        await self.market.start()


@contextlib.asynccontextmanager
async def stack_rig(venue: str, directory: Path) -> AsyncIterator[StackRig]:
    """Run a sandbox and the three services over it, trading."""
    symbols = (MARKET, OTHER.replace("-", ""))
    told = {"venue": VenueName(venue), "source": Source.STILL, "symbols": symbols, "balances": ("USDT=100000",)}
    running = await start(msgspec.convert(told, SandboxConfig, strict=False))
    rig = StackRig(directory, running)
    try:
        await rig.begin()
        yield rig
        if rig.failure is not None:
            raise AssertionError(f"a service failed: {rig.failure!r}") from rig.failure
    finally:
        await rig.end()
        await running.close()
