"""Measure the whole pipeline: a closed market step in, an order request out, through the real services.

python tests/benchmarks/pipeline.py       prints tables in less than 90 s; needs a nats-server (see bus/server.py)

A secured nats-server, `python -m services.{rebalancer,risk,execution}` and this process as market_data. Each step makes
one asset breach its threshold. All times are readings of the machine's one monotonic clock; the order leaves when
execution calls the venue. Half of the steps go out as a feed sends them, bars and `BarsClosed` in one go (timed from
the first bar); in the other half the bars have come before (timed from `BarsClosed`). `disk` keeps everything on the
file system of --store, `memory` on /dev/shm, which shows what is left when syncs cost nothing. The baseline is a chain
of raw nats-py clients with the same number of durable publishes and one synced file write.
"""

import argparse
import asyncio
import contextlib
import os
import runpy
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from peers import raw_nats

from services.cli.stack import child_environment, service_specs
from services.execution.core.orders import client_order_id
from shared.bus import subjects
from shared.bus.nats import NatsBus
from shared.bus.permissions import roles
from shared.bus.port import Delivery
from shared.bus.server import find_server
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.clock import NANOSECONDS_PER_MINUTE, monotonic_ns, wall_ns
from shared.config import Mode
from shared.errors import ConfigError
from shared.exchange.paper import PaperVenue
from shared.exchange.port import OrderRequest, VenueOrder
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Bbo,
    Heartbeat,
    Instrument,
    InstrumentDefinition,
    Message,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    Progress,
)
from shared.testing.nats import RealNats

SERVICES = ("rebalancer", "risk", "execution")
ASSETS = ("AA-USDT", "BB-USDT", "CC-USDT", "DD-USDT")
VENUE, TIMEFRAME = "mexc", "15m"
SETTINGS = {
    "stack": {"mode": "paper", "venue": VENUE, "assets": list(ASSETS), "timeframe": TIMEFRAME},
    "rebalancer": {
        "upside_threshold": "0.05", "downside_threshold": "0.5", "cooldown_minutes": "0", "position_limit": "1",
        "usdt_buffer": "0", "usdt_reserve": "0.3",
    },
    "risk": {"position_limit": "1", "orders_per_second_max": 1_000, "orders_per_minute_max": 10_000},
}  # fmt: skip
VALUE_USDT, FIRED_USDT = 2_000.0, 2_200.0
RATES = (0, 5_000)
WARM_UP = 6
TICK_S = 0.001
PAUSE_S = 0.03
START_TIMEOUT_S, STEP_TIMEOUT_S = 20.0, 10.0
STAGES = ("intent", "approval", "order sent", "event", "account")
RAW_ROUNDS = 60
STAMPS = "stamps.txt"


def serve(name: str, loop: str, stamps: str) -> None:
    """Be the service, on asyncio's own loop if so named; of each order note when the venue was called."""
    if loop == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment] # makes the lifecycle's import fail
    if stamps:
        out = os.open(stamps, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        submit = PaperVenue.submit

        async def stamped(venue: PaperVenue, request: OrderRequest) -> VenueOrder:
            os.write(out, f"{request.client_order_id} {monotonic_ns()}\n".encode())
            return await submit(venue, request)

        PaperVenue.submit = stamped  # type: ignore[assignment,method-assign]
    sys.argv = [f"services.{name}"]
    runpy.run_module(f"services.{name}", run_name="__main__", alter_sys=True)


class Watch:
    """Note when each stage of the newest step was first seen."""

    def __init__(self) -> None:
        self.close_ns = 0
        self.seen: dict[str, int] = {}
        self.first_intent = ""
        self.account: AccountSnapshot | None = None
        self.progress: dict[str, int] = {}
        self.ready: set[str] = set()
        self._intents: set[str] = set()
        self._ledger_before = 0
        self._moved = asyncio.Event()

    def begin(self, close_ns: int) -> None:
        """Wait for the stages of another step from now on."""
        self.close_ns, self.seen, self.first_intent, self._intents = close_ns, {}, "", set()
        self._ledger_before = 0 if self.account is None else self.account.ledger_sequence

    async def take(self, delivery: Delivery) -> None:
        """Take anything that a service said."""
        now_ns = monotonic_ns()
        match delivery.message:
            case OrderIntent(decided_at_ns=self.close_ns) as intent:
                self.seen.setdefault("intent", now_ns)
                self.first_intent = self.first_intent or intent.intent_id
                self._intents.add(intent.intent_id)
            case OrderApproved(intent=OrderIntent(decided_at_ns=self.close_ns)):
                self.seen.setdefault("approval", now_ns)
            case OrderEvent(intent_id=intent_id) if intent_id in self._intents:
                self.seen.setdefault("event", now_ns)
            case AccountSnapshot() as account:
                if self.account is None or account.ledger_sequence >= self.account.ledger_sequence:
                    self.account = account
                if account.ledger_sequence > self._ledger_before and "event" in self.seen:
                    self.seen.setdefault("account", now_ns)
            case Progress(service=service, close_time_ns=close_ns):
                self.progress[service] = close_ns
            case Heartbeat(service=service, ready=True):
                self.ready.add(service)
        self._moved.set()

    async def until(self, is_true: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until the condition holds; raises RuntimeError when it takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not is_true():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise RuntimeError(f"never happened: {what}; seen {self.seen}, progress {self.progress}") from None


class Feed:
    """Be market_data: definitions, steps that fire, and quotes in the background."""

    def __init__(self, bus: NatsBus, watch: Watch) -> None:
        self._bus, self._watch = bus, watch
        self._prices = dict.fromkeys(ASSETS, 100.0)
        self._number = 0
        self.quotes = 0

    async def define(self) -> None:
        """Announce the markets."""
        for symbol in ASSETS:
            grid = msgspec.convert({"tick": "0.000001", "step": "0.000001", "least": "1"}, dict[str, Any])
            base = symbol.partition("-")[0]
            fields = (symbol, base, "USDT", grid["tick"], grid["step"], grid["step"], grid["least"])
            definition = InstrumentDefinition(VENUE, msgspec.convert(fields, Instrument), 0)
            await self._bus.publish(subjects.instrument(VENUE, symbol), definition, message_id=f"define-{symbol}")

    async def step(self, *, at_once: bool) -> int:
        """Publish a step in which one asset fires and return when it began."""
        self._number += 1
        close_ns = wall_ns()
        self._move_prices(ASSETS[self._number % len(ASSETS)])
        bars: list[tuple[str, Message, str]] = [
            (subjects.bar(TIMEFRAME, VENUE, symbol), self._bar(symbol, close_ns), f"{symbol}-{close_ns}")
            for symbol in ASSETS
        ]
        closed = BarsClosed(VENUE, TIMEFRAME, close_ns, ASSETS, (), self._number, final=False)
        end = (subjects.bars_closed(TIMEFRAME, VENUE), closed, f"closed-{close_ns}")
        self._watch.begin(close_ns)
        if not at_once:
            await self._bus.publish_all(bars)
            await asyncio.sleep(PAUSE_S)
            bars = []
        begun_ns = monotonic_ns()
        await self._bus.publish_all([*bars, end])
        return begun_ns

    async def quote_forever(self, rate: int) -> None:
        """Publish quotes at this rate, in bursts of a millisecond."""
        start, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - start) * rate)
            for _ in range(min(due - sent, rate)):
                symbol = ASSETS[sent % len(ASSETS)]
                price, now_ns = self._prices[symbol], wall_ns()
                quote = Bbo(VENUE, symbol, price * 0.9999, 1.5, price * 1.0001, 2.5, now_ns, now_ns, sent)
                self.quotes += self._bus.publish_lossy(subjects.bbo(VENUE, symbol), quote)
                sent += 1
            await asyncio.sleep(TICK_S)

    def _move_prices(self, fired: str) -> None:
        account = self._watch.account
        held = {} if account is None else {balance.asset: float(balance.total) for balance in account.balances}
        for symbol in ASSETS:
            quantity = held.get(symbol.partition("-")[0], 0.0)
            if quantity:
                self._prices[symbol] = round((FIRED_USDT if symbol == fired else VALUE_USDT) / quantity, 6)

    def _bar(self, symbol: str, close_ns: int) -> Bar:
        price, open_ns = self._prices[symbol], close_ns - 15 * NANOSECONDS_PER_MINUTE
        return Bar(
            VENUE, symbol, TIMEFRAME, open_ns, close_ns, price, price, price, price, 1e9, None, close_ns, self._number
        )


def fail(error: BaseException) -> None:
    """End the benchmark on a programmer error."""
    sys.stderr.write(f"{error!r}\n")
    os._exit(1)


@contextlib.asynccontextmanager
async def client(server: RealNats, name: str) -> AsyncIterator[NatsBus]:
    """Connect as one of the stack's users."""
    bus = NatsBus(server.url, service=name, on_fatal=fail, nkey_file=server.seed(name))
    await bus.connect()
    try:
        yield bus
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def services(server: RealNats, loop: str, directory: Path) -> AsyncIterator[None]:
    """Run the services with the environment that `cascade up` gives them."""
    settings = directory / "settings.json"
    settings.write_bytes(msgspec.json.encode(SETTINGS))
    state = directory / "state"
    state.mkdir()
    specs = service_specs(
        Mode.PAPER, state_dir=state, settings_file=settings, keys_dir=server.directory, nats_url=server.url,
        build="bench", environ=child_environment(os.environ),
    )  # fmt: skip
    running = []
    try:
        for spec in specs:
            if spec.name not in SERVICES:
                continue
            argv = spec.argv
            if spec.name == "execution" or loop == "asyncio":
                stamps = str(directory / STAMPS) if spec.name == "execution" else ""
                argv = (sys.executable, __file__, "--serve", spec.name, "--loop", loop, "--stamps", stamps)
            with (directory / f"{spec.name}.log").open("wb") as log:
                running.append(await asyncio.create_subprocess_exec(*argv, env=spec.env, stdout=log, stderr=log))
        yield
    finally:
        for process in running:
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in running))


async def measure(server: RealNats, loop: str, seconds: float, directory: Path) -> list[str]:
    """Run the services on one server and loop; returns the table's lines."""
    async with client(server, "admin") as admin:
        await admin.bootstrap(STREAMS, BUCKETS)
    watch = Watch()
    lines = []
    async with client(server, "market_data") as market, client(server, "dashboard") as dashboard:
        for subject in ("ord.>", "acct.>", "progress.>", "hb.>"):
            await dashboard.subscribe(subject, watch.take)
        async with services(server, loop, directory):
            feed = Feed(market, watch)
            await feed.define()
            await watch.until(lambda: watch.ready >= set(SERVICES), "all services are ready", START_TIMEOUT_S)
            await watch.until(lambda: watch.account is not None, "an account was seen", START_TIMEOUT_S)
            await asyncio.sleep(0.2)
            for _ in range(WARM_UP):
                await one_step(feed, watch, at_once=True)
            for rate in RATES:
                lines += await phase(feed, watch, rate=rate, seconds=seconds, directory=directory, loop=loop)
        assert await dashboard.last(MD_BARS, subjects.bars_closed(TIMEFRAME, VENUE))
    return lines


async def phase(feed: Feed, watch: Watch, *, rate: int, seconds: float, directory: Path, loop: str) -> list[str]:
    """Measure steps at one rate of quotes."""
    quoting = asyncio.create_task(feed.quote_forever(rate)) if rate else None
    begun, quotes = time.monotonic(), feed.quotes
    found: dict[bool, list[dict[str, int]]] = {True: [], False: []}
    try:
        while time.monotonic() < begun + seconds:
            for at_once, samples in found.items():
                samples.append(await one_step(feed, watch, at_once=at_once))
    finally:
        if quoting is not None:
            quoting.cancel()
    arrived = (feed.quotes - quotes) / (time.monotonic() - begun)
    sent = dict(line.split() for line in (directory / STAMPS).read_text().splitlines())
    lines = []
    for at_once, samples in found.items():
        for sample in samples:
            order = client_order_id(sample_id(sample))
            sample["order sent"] = int(sent[order])
        label = f"{loop:<9}{'first bar' if at_once else 'BarsClosed':<12}{arrived:>8,.0f}{len(samples):>5}"
        lines.append(label + "".join(share(samples, stage) for stage in STAGES))
    return lines


_ids: dict[int, str] = {}


def sample_id(sample: dict[str, int]) -> str:
    """Return the first intent's id of a sample."""
    return _ids[sample["begun"]]


async def one_step(feed: Feed, watch: Watch, *, at_once: bool) -> dict[str, int]:
    """Publish a step, wait until its plan is over, and return the time of each stage."""
    begun_ns = await feed.step(at_once=at_once)
    done = ("rebalancer", "execution", "risk")
    await watch.until(
        lambda: "account" in watch.seen and all(watch.progress.get(name, 0) >= watch.close_ns for name in done),
        "the step's plan is over",
        STEP_TIMEOUT_S,
    )
    _ids[begun_ns] = watch.first_intent
    seen = {"begun": begun_ns, **watch.seen}
    await asyncio.sleep(PAUSE_S)
    return seen


def share(samples: list[dict[str, int]], stage: str) -> str:
    """Return `p50 / p99` of a stage in milliseconds."""
    return f"{percentiles([sample[stage] - sample['begun'] for sample in samples]):>16}"


def percentiles(latencies_ns: list[int]) -> str:
    """Return `p50 / p99` in milliseconds."""
    ordered = sorted(latencies_ns)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1e6 for part in (0.50, 0.99))
    return f"{p50:.2f} / {p99:.2f}"


async def raw_rows(server: RealNats, directory: Path) -> list[str]:
    broker, synced = await raw_nats.chain(server.url, directory / "journal", rounds=RAW_ROUNDS, pause_s=PAUSE_S)
    return [
        f"  baseline, raw nats-py: 4 durable publishes in a chain {percentiles(broker[10:]):>16}",
        f"  the same and one synced write of a file               {percentiles(synced[10:]):>16}",
    ]


def run[T](loop: str, work: Coroutine[Any, Any, T]) -> T:
    """Run on the named event loop."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def on_server(directory: Path, binary: Path, *, secured: bool) -> RealNats:
    """Start a server in a new directory."""
    directory.mkdir(parents=True)
    server = RealNats(directory, binary, roles() if secured else ())
    server.start()
    return server


def measure_store(store: str, root: Path, binary: Path, loops: tuple[str, ...], seconds: float) -> None:
    """Print everything about one place to store."""
    server = on_server(root / "raw", binary, secured=False)
    try:
        sys.stdout.write(f"{store}, milliseconds p50 / p99; load average {os.getloadavg()[0]:.1f}\n")
        for line in run("uvloop", raw_rows(server, root)):
            sys.stdout.write(line + "\n")
    finally:
        server.kill()
    sys.stdout.write(f"  {'loop':<9}{'from':<12}{'quotes/s':>8}{'n':>5}{''.join(f'{stage:>16}' for stage in STAGES)}\n")
    for loop in loops:
        server = on_server(root / loop, binary, secured=True)
        try:
            # The benchmark's own loop stays the same, so that only the services differ.
            for line in run("uvloop", measure(server, loop, seconds, root / loop)):
                sys.stdout.write(f"  {line}\n")
            sys.stdout.flush()
        finally:
            server.kill()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=("asyncio", "uvloop", "both"), default="both")
    parser.add_argument("--stamps", default="", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help="where `disk` is (default: the temporary directory)")
    parser.add_argument("--only", choices=("disk", "memory"), help="one place to store")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each measurement takes")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.loop, options.stamps)
        return
    try:
        binary = find_server()
    except ConfigError as error:
        sys.stdout.write(f"not measured: {error}\n")
        return
    loops = ("asyncio", "uvloop") if options.loop == "both" else (options.loop,)
    for store, place in (("disk", options.store), ("memory", Path("/dev/shm"))):
        if options.only in (None, store) and (place is None or place.is_dir()):
            with tempfile.TemporaryDirectory(dir=place) as directory:
                measure_store(store, Path(directory), binary, loops, options.seconds)


if __name__ == "__main__":
    main()
