"""The service over the in-memory bus: what it publishes, when, and that a kill at any point changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from services.rebalancer.__main__ import build
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Resumed, decide, replay_record
from services.rebalancer.memory import Remembered, StateMemory
from services.rebalancer.service import RebalancerService
from services.rebalancer.telemetry import Telemetry
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import ACCOUNTS, BUCKETS, DECISIONS, MD_BARS, ORDERS, STATE_BUCKET, STREAMS
from shared.clock import MarketClock
from shared.config import load_settings
from shared.errors import ConfigError, IntegrityError
from shared.lifecycle import ProcessConfig, Runtime
from shared.logs import configure_logs
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    DecisionRecord,
    Instrument,
    InstrumentDefinition,
    OrderIntent,
    OrderRefused,
)
from shared.metrics import Metrics
from shared.testing.fake_venue import FakeVenue, instrument

D = Decimal
VENUE, FRAME = "sandbox", "4h"
ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")
STEP_NS = 4 * 3_600_000_000_000
T0 = 1_700_006_400_000_000_000


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event to set
            await asyncio.sleep(0)


class Stack:
    """The rebalancer's surroundings: a broker, the market, and a venue behind a gate that approves everything."""

    def __init__(self, venue: FakeVenue) -> None:
        self.broker, self.venue = MemoryBroker(), venue
        self.bus = MemoryBus(self.broker, service="rest")
        self.progress: list[int] = []
        self.services: list[tuple[RebalancerService, MemoryBus]] = []
        self.step = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def begin(self, *, account: bool = True, definitions: bool = True) -> None:
        await self.bus.connect()
        await self.bus.bootstrap(STREAMS, BUCKETS)
        await self.bus.consume(ORDERS, "venue", self.on_intent, filters=("ord.intent.>",))
        if definitions:
            for asset in ASSETS:
                await self.define(instrument(asset))
        if account:
            await self.publish_account()

    async def define(self, market: Instrument) -> None:
        definition = InstrumentDefinition(VENUE, market, T0)
        await self.bus.publish(subjects.instrument(VENUE, market.symbol), definition, message_id=market.symbol)

    async def publish_account(self) -> None:
        snapshot = self.venue.snapshot(T0 + self.step * STEP_NS)
        await self.bus.publish(
            subjects.account(VENUE), snapshot, message_id=f"{self.venue.ledger_sequence}-{self.step}"
        )

    async def on_intent(self, delivery: Delivery) -> None:
        intent = delivery.message
        assert isinstance(intent, OrderIntent)
        await self.gate.wait()
        for number, message in enumerate(self.venue.submit(intent)):
            subject = subjects.order_event(intent.strategy, VENUE, intent.instrument)
            if isinstance(message, OrderRefused):
                subject = subjects.order_refused(intent.strategy)
            await self.bus.publish(subject, message, message_id=f"{intent.intent_id}-{number}")
        await self.publish_account()

    async def market(self, prices: dict[str, object], *, only_bars: bool = False, only_end: bool = False) -> int:
        """Publish one step; return its close time."""
        if not only_end:
            self.step += 1
        at_ns = T0 + self.step * STEP_NS
        self.venue.prices = {asset: D(str(price)) for asset, price in prices.items()}
        for asset, price in {} if only_end else prices.items():
            close = float(price)
            bar = Bar(
                VENUE, asset, FRAME, at_ns - STEP_NS, at_ns, close, close, close, close, 1.0, None, at_ns, self.step
            )
            await self.bus.publish(subjects.bar(FRAME, VENUE, asset), bar, message_id=f"{asset}-{self.step}")
        if not only_bars:
            missing = tuple(asset for asset in ASSETS if asset not in prices)
            closed = BarsClosed(VENUE, FRAME, at_ns, tuple(prices), missing, self.step, final=False)
            await self.bus.publish(subjects.bars_closed(FRAME, VENUE), closed, message_id=f"end-{self.step}")
        return at_ns

    async def launch(self, config: RebalanceConfig | None = None, bus: MemoryBus | None = None) -> RebalancerService:
        bus = bus or MemoryBus(self.broker, service="rebalancer")
        await bus.connect()
        service = RebalancerService(
            bus=bus,
            clock=MarketClock(),
            config=config or RebalanceConfig(assets=ASSETS),
            venue=VENUE,
            timeframe=FRAME,
            report_progress=self.progress.append,
            telemetry=Telemetry(Metrics("rebalancer")),
        )
        self.services.append((service, bus))
        await service.start()
        return service

    async def reached(self, at_ns: int) -> None:
        await until(lambda: bool(self.progress) and self.progress[-1] >= at_ns)

    async def intents(self) -> list[OrderIntent]:
        stored = await self.bus.history(ORDERS, "ord.intent.>")
        return [each.message for each in stored if isinstance(each.message, OrderIntent)]

    async def records(self) -> list[DecisionRecord]:
        stored = await self.bus.history(DECISIONS, "decision.>")
        return [each.message for each in stored if isinstance(each.message, DecisionRecord)]

    async def end(self) -> None:
        for service, bus in self.services:
            await service.drain()
            await bus.close()
        await self.bus.close()


@asynccontextmanager
async def stack(venue: FakeVenue | None = None, **how: bool) -> AsyncIterator[Stack]:
    made = Stack(venue or FakeVenue(10_000))
    await made.begin(**how)
    try:
        yield made
    finally:
        await made.end()


FLAT = dict.fromkeys(ASSETS, 1)
PUMP = FLAT | {"A-USDT": 2}


async def test_start_allocates_then_pump_sells_and_spreads() -> None:
    async with stack() as made:
        await made.launch()
        await made.reached(await made.market(FLAT))
        assert {asset: float(q) for asset, q in made.venue.quantities.items()} == dict.fromkeys(ASSETS, 1748.25)
        await made.reached(await made.market(PUMP))
        assert made.venue.quantities["A-USDT"] == D("1748.25") - D("349.65")
        assert made.venue.quantities["B-USDT"] > D("1748.25")
        actions = [record.action for record in await made.records()]
        assert actions[0] == "allocate"
        assert "upside" in actions
        sides = [intent.side.value for intent in (await made.intents())[4:]]
        assert sides == ["sell", "buy", "buy", "buy"]


async def test_every_record_is_yielded_again_by_the_core() -> None:
    async with stack() as made:
        await made.launch()
        for prices in (FLAT, PUMP, FLAT, FLAT | {"B-USDT": "0.3"}):
            await made.reached(await made.market(prices))
        records = await made.records()
        assert len(records) >= 8
        assert len({record.decision_id for record in records}) == len(records)
        for record in records:
            assert replay_record(record) == record.outcome
            assert record.notes


async def test_progress_is_reported_only_when_the_plan_is_done() -> None:
    async with stack() as made:
        made.gate.clear()
        service = await made.launch()
        at_ns = await made.market(FLAT)
        await until(lambda: service.state.last_close_ns == at_ns)
        assert made.progress == []
        made.gate.set()
        await made.reached(at_ns)
        assert service.state.plan is None


async def test_a_breach_in_the_bars_decides_nothing_before_their_end() -> None:
    async with stack() as made:
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        before, sent = service.state, await made.intents()
        at_ns = await made.market(PUMP, only_bars=True)
        await until(lambda: len(service._steps.closes(at_ns)) == len(ASSETS))
        assert (service.state, await made.intents()) == (before, sent)
        await made.market(PUMP, only_end=True)
        await made.reached(at_ns)
        assert (await made.intents())[len(sent)].instrument == "A-USDT"


async def test_no_decision_before_an_account_was_seen() -> None:
    async with stack(account=False) as made:
        service = await made.launch()
        at_ns = await made.market(FLAT)
        await until(lambda: service_waits(made))
        assert service.state.last_close_ns == 0
        assert await made.intents() == []
        await made.publish_account()
        await made.reached(at_ns)
        assert len(await made.intents()) == 4


def service_waits(made: Stack) -> bool:
    return made.services[0][1].counters()["redelivered"] > 2


async def test_bars_closed_again_changes_nothing() -> None:
    async with stack() as made:
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        before, count = service.state, len(await made.intents())
        closed = await made.bus.last(MD_BARS, subjects.bars_closed(FRAME, VENUE))
        await made.bus.publish(closed.subject, closed.message, message_id="again")
        await made.reached(await made.market(FLAT))
        assert service.state.fired_at_ns == before.fired_at_ns
        assert len(await made.intents()) == count


async def test_missing_bar_and_nan_close_make_no_order_and_say_why() -> None:
    async with stack() as made:
        await made.launch()
        await made.reached(await made.market({a: p for a, p in FLAT.items() if a != "C-USDT"}))
        await made.reached(await made.market(FLAT | {"B-USDT": "nan"}))
        await made.reached(await made.market(FLAT | {"B-USDT": 0}))
        assert await made.intents() == []
        notes = [record.notes[0] for record in await made.records()]
        assert notes[0] == "price of C-USDT is missing: no plan until the feed reports it"
        assert notes[1].startswith("price of B-USDT is NaN")
        assert notes[2].startswith("price of B-USDT is 0.0")


async def test_undefined_instrument_makes_no_order_and_says_why() -> None:
    async with stack(definitions=False) as made:
        await made.launch()
        await made.reached(await made.market(FLAT))
        assert "instrument A-USDT is not defined" in (await made.records())[0].notes[0]
        for asset in ASSETS:
            await made.define(instrument(asset))
        await made.reached(await made.market(FLAT))
        assert len(await made.intents()) == 4


async def test_restart_between_bars_and_their_end_finds_the_bars_in_the_stream() -> None:
    async with stack() as made:
        first = await made.launch()
        await made.reached(await made.market(FLAT))
        await made.market(PUMP, only_bars=True)
        await until(lambda: len(first._steps.closes(T0 + 2 * STEP_NS)) == len(ASSETS))
        await first.drain()
        made.services[0][1].kill()
        del made.services[0]
        await made.launch()
        await made.reached(await made.market(PUMP, only_end=True))
        assert [record.action for record in await made.records()][-1] == "upside"


async def test_two_processes_on_one_strategy_are_refused() -> None:
    async with stack() as made:
        bucket = await made.bus.key_value(STATE_BUCKET)
        one, other = StateMemory(bucket, "rebalancer.x"), StateMemory(bucket, "rebalancer.x")
        first = await one.load()
        await other.load()
        state = decide(first.state, Resumed(), None, 0)[0]
        await one.store(Remembered(state, None))
        changed = type(state)(last_close_ns=7)
        with pytest.raises(IntegrityError, match="another process"):
            await other.store(Remembered(changed, None))
        # The same bytes are an own attempt whose answer was lost.
        await other.store(Remembered(state, None))
        await other.store(Remembered(changed, None))


async def test_older_account_snapshot_is_ignored() -> None:
    async with stack() as made:
        service = await made.launch()
        await made.reached(await made.market(FLAT))
        newest = made.venue.snapshot()
        old = AccountSnapshot(VENUE, "paper", 1, T0, (), (), None, D(0), 0)
        await made.bus.publish(subjects.account(VENUE), old, message_id="old")
        await made.reached(await made.market(FLAT))
        await until(lambda: service._account.as_of_ns >= newest.as_of_ns)
        assert [record.action for record in await made.records()][-1] == "none"


def runtime(*overrides: str) -> Runtime:
    made = Runtime(
        "rebalancer",
        ProcessConfig.from_environment(),
        load_settings(None, overrides, {}),
        configure_logs("rebalancer", "0"),
    )
    made.bus = MemoryBus(MemoryBroker())
    return made


async def test_settings_make_the_service_and_bad_ones_are_refused() -> None:
    service = await build(runtime("rebalancer.sell_percentage=0.1"))
    assert service._params.config.sell_percentage == D("0.1")
    assert service._params.config.assets == ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")
    for override, words in (
        ("rebalancer.sell_percent=0.1", "did you mean 'sell_percentage'"),
        ("rebalancer.sell_percentage=50", "write 0.5 for 50 %"),
        ("rebalancer.upside_threshold=-1", "upside_threshold must be more than 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            await build(runtime(override))


def test_accounts_stream_keeps_what_the_service_reads_at_start() -> None:
    assert any(spec.name == ACCOUNTS and "acct.>" in spec.subjects for spec in STREAMS)
