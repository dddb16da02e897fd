"""Measure a hop over the bus: one-way latency and throughput, ours against raw nats-py, asyncio against uvloop.

python tests/benchmarks/bus.py            prints a table in less than a minute; needs a nats-server (see bus/server.py)

A publisher in its own process sends quotes that carry the machine's monotonic time; the receiver subtracts. Latency
therefore spans encode, socket, server (with a disk sync for durable messages), socket, decode, callback.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from shared.bus.nats import NatsBus
from shared.bus.port import Delivery, StreamSpec
from shared.bus.server import find_server
from shared.errors import ConfigError
from shared.messages import Bbo, decode, encode
from shared.testing.nats import RealNats

SECONDS = 1.2
SECONDS_MAX = 1.8
RATES = (1_000, 5_000)
FLOOD = 40_000
TICK_S = 0.001
CORE, DURABLE = "bench.core", "bench.durable"
STREAM = StreamSpec(name="BENCH", subjects=(DURABLE,), max_messages=1_000_000)
FINAL = -1


class Task(msgspec.Struct, frozen=True):
    """Say what one measurement does; rate 0 floods."""

    url: str
    client: str
    durable: bool
    loop: str
    rate: int

    @property
    def count(self) -> int:
        return int(self.rate * SECONDS) if self.rate else FLOOD

    @property
    def subject(self) -> str:
        return DURABLE if self.durable else CORE


def quote(sequence: int, sent: int = 0) -> Bbo:
    """Make a quote that carries its time of sending, and the last one how many there were."""
    return Bbo("sandbox", "BTC-USDT", 64_000.1, 1.5, 64_000.2, 2.5, sent, time.monotonic_ns(), sequence)


def run[T](loop: str, work: Awaitable[T]) -> T:
    """Run on the named event loop."""

    async def main() -> T:
        return await work

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


async def publish(task: Task) -> None:
    """Send at the task's rate, in bursts of a millisecond; what the bus cannot take in time is not sent."""
    send, close = await _sender(task)
    start, sent = time.monotonic(), 0
    burst = max(1, int(task.rate * TICK_S)) if task.rate else 100
    while sent < task.count and time.monotonic() < start + SECONDS_MAX:
        batch = [quote(number) for number in range(sent, min(sent + burst, task.count))]
        await send(batch, sent)
        sent += len(batch)
        if task.rate:
            pause = start + sent / task.rate - time.monotonic()
            # uvloop busy-spins below a millisecond, which would steal the receiver's core.
            await asyncio.sleep(max(0.0, pause) if pause > TICK_S / 2 else 0)
        else:
            await asyncio.sleep(0)
    await send([quote(FINAL, sent)], sent)
    await close()


async def _sender(task: Task) -> tuple[Callable[[list[Bbo], int], Awaitable[None]], Callable[[], Awaitable[None]]]:
    if task.client == "raw":
        raw = Client()
        await raw.connect(task.url)
        js = raw.jetstream()

        async def send_raw(batch: list[Bbo], first: int) -> None:
            for offset, message in enumerate(batch):
                if task.durable:
                    await js.publish(DURABLE, encode(message), headers={"Nats-Msg-Id": f"{task.loop}{first + offset}"})
                else:
                    await raw.publish(CORE, encode(message))

        return send_raw, raw.drain
    bus = NatsBus(task.url, service="publisher", on_fatal=lambda error: sys.exit(repr(error)))
    await bus.connect()

    async def send_bus(batch: list[Bbo], first: int) -> None:
        if task.durable:
            items = [(DURABLE, message, f"{task.loop}{first + offset}") for offset, message in enumerate(batch)]
            await bus.publish_all(items, timeout_s=30.0)
            return
        for message in batch:
            bus.publish_lossy(CORE, message)

    return send_bus, bus.close


async def receive(task: Task) -> tuple[list[int], float, int]:
    """Return the latencies in nanoseconds, the rate at which messages arrived, and how many did not."""
    latencies: list[int] = []
    first_ns = last_ns = sent = 0
    ended = asyncio.Event()

    def take(message: object) -> None:
        nonlocal first_ns, last_ns, sent
        assert isinstance(message, Bbo)
        if message.sequence == FINAL:
            sent = message.ts_event_ns
            ended.set()
            return
        last_ns = time.monotonic_ns()
        first_ns = first_ns or last_ns
        latencies.append(last_ns - message.ts_recv_ns)

    close = await _receiver(task, take)
    arguments = [sys.executable, __file__, "--publish", msgspec.json.encode(task).decode()]
    publisher = await asyncio.create_subprocess_exec(*arguments)
    async with asyncio.timeout(30):
        await ended.wait()
        await publisher.wait()
    await close()
    span_s = max(1, last_ns - first_ns) / 1e9
    return latencies, len(latencies) / span_s, sent - len(latencies)


async def _receiver(task: Task, take: Callable[[object], None]) -> Callable[[], Awaitable[None]]:
    if task.client == "raw":
        raw = Client()
        await raw.connect(task.url)

        async def on_raw(message: Msg) -> None:
            take(decode(message.data))
            if task.durable:
                await message.ack()

        if task.durable:
            config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=256)
            await raw.jetstream().subscribe(DURABLE, durable="raw", cb=on_raw, manual_ack=True, config=config)
        else:
            await raw.subscribe(CORE, cb=on_raw)
        await asyncio.sleep(0.05)  # nats-py's flush can overtake its own buffer

        return raw.close
    bus = NatsBus(task.url, service="receiver", on_fatal=lambda error: sys.exit(repr(error)))
    await bus.connect()

    async def on_bus(delivery: Delivery) -> None:
        take(delivery.message)

    if task.durable:
        await bus.consume(STREAM.name, "bus", on_bus)
    else:
        await bus.subscribe(CORE, on_bus, pending_max=2 * FLOOD)
    return bus.close


async def prepare(url: str) -> None:
    """Create the stream."""
    bus = NatsBus(url, service="admin", on_fatal=lambda error: sys.exit(repr(error)))
    await bus.connect()
    await bus.bootstrap((STREAM,), ())
    await bus.close()


def measure(task: Task, directory: Path, binary: Path) -> str:
    """Run one measurement against a fresh server and return its line of the table."""
    directory.mkdir()
    server = RealNats(directory, binary)
    server.start()
    try:
        task = msgspec.structs.replace(task, url=server.url)
        run("asyncio", prepare(task.url))
        latencies, arrived, lost = run(task.loop, receive(task))
    finally:
        server.kill()
    # The first tenth belongs to caches and connections.
    steady = sorted(latencies[len(latencies) // 10 :])
    hop = "durable publish -> consume" if task.durable else "core publish -> callback"
    client = "raw nats-py" if task.client == "raw" else "bus"
    wanted = f"{task.rate:,}/s" if task.rate else "flood"
    p50, p99 = (f"{steady[int(len(steady) * share)] / 1e3:,.0f}" if task.rate else "" for share in (0.50, 0.99))
    return f"{hop:<28}{client:<13}{task.loop:<9}{wanted:>9}{arrived:>12,.0f}{p50:>10}{p99:>10}{lost:>7}"


def tasks() -> list[Task]:
    """List the measurements; a durable 5,000/s is a flood already: each message waits for the disk."""
    kinds = [(rate, durable) for durable in (False, True) for rate in RATES] + [(0, False)]
    return [
        Task(url="", client=client, durable=durable, loop=loop, rate=rate)
        for rate, durable in kinds
        for loop in ("asyncio", "uvloop")
        for client in ("raw", "bus")
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        task = msgspec.json.decode(options.publish, type=Task)
        run(task.loop, publish(task))
        return
    try:
        binary = find_server()
    except ConfigError as error:
        sys.stdout.write(f"not measured: {error}\n")
        return
    header = (
        f"{'hop':<28}{'client':<13}{'loop':<9}{'sent':>9}{'arrived/s':>12}{'p50 us':>10}{'p99 us':>10}{'lost':>7}\n"
    )
    sys.stdout.write(header)
    with tempfile.TemporaryDirectory() as directory:
        for number, task in enumerate(tasks()):
            sys.stdout.write(measure(task, Path(directory) / str(number), binary) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
