"""The market data process on a real server with the stack's permissions: killed often, its stream is the same."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from shared.bus.nats import NatsBus
from shared.bus.streams import BUCKETS, MD_BARS, STREAMS
from shared.messages import BarsClosed
from shared.messages.codec import encode
from shared.testing.nats import RealNats, secured_nats_server

__all__ = ["secured_nats_server"]

pytestmark = [pytest.mark.nats, pytest.mark.timeout(90)]

STEPS = 300
CLOSED = "md.closed.15m.sandbox"
TREE = {"market_data": {"speed": "max", "steps_max": STEPS, "participants": "", "seed": 5}}


async def start(server: RealNats, directory: Path) -> asyncio.subprocess.Process:
    settings = directory / "settings.json"
    settings.write_bytes(msgspec.json.encode(TREE))
    environment = os.environ | {
        "CASCADE_NATS_URL": server.url,
        "CASCADE_NKEY_FILE": str(server.seed("market_data")),
        "CASCADE_SETTINGS": str(settings),
        "CASCADE_STATE_DIR": str(directory / "state"),
    }
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "services.market_data", env=environment)


async def connect(server: RealNats, name: str) -> NatsBus:
    def fail(error: BaseException) -> None:
        raise error

    bus = NatsBus(server.url, service=name, on_fatal=fail, nkey_file=server.seed(name))
    await bus.connect()
    return bus


async def newest_step(bus: NatsBus) -> int:
    last = await bus.last(MD_BARS, CLOSED)
    return last.message.step if last is not None and isinstance(last.message, BarsClosed) else 0


async def play(server: RealNats, directory: Path, kills_at: tuple[int, ...]) -> None:
    bus = await connect(server, "cli")
    for step in (*kills_at, STEPS):
        process = await start(server, directory)
        while await newest_step(bus) < step:
            assert process.returncode is None
            await asyncio.sleep(0.002)
        process.send_signal(signal.SIGKILL if step != STEPS else signal.SIGTERM)
        code = await process.wait()
        assert step != STEPS or code == 0
    await bus.close()


async def test_a_process_killed_again_and_again_leaves_the_uninterrupted_stream(secured_nats_server, tmp_path):
    bootstrap = await connect(secured_nats_server, "admin")
    await bootstrap.bootstrap(STREAMS, BUCKETS)
    await bootstrap.close()
    await play(secured_nats_server, tmp_path, kills_at=(1, 40, 120, 200))
    reader = await connect(secured_nats_server, "cli")
    stored = await reader.history(MD_BARS, "md.>", limit=10_000)
    await reader.close()
    assert [(one.subject, encode(one.message)) for one in stored] == await expected_stream()


async def expected_stream() -> list[tuple[str, bytes]]:
    from services.market_data.config import MarketDataConfig
    from services.market_data.feeds import build_feed
    from services.market_data.publisher import StepPublisher
    from shared.bus.memory import MemoryBroker, MemoryBus
    from shared.config import load_settings

    settings = load_settings(None, [f"market_data.{key}={value}" for key, value in TREE["market_data"].items()], {})
    feed = build_feed(settings.stack, settings.section("market_data", MarketDataConfig))
    broker = MemoryBroker()
    broker.bootstrap(STREAMS, BUCKETS)
    bus = MemoryBus(broker)
    await bus.connect()
    publisher = StepPublisher(bus, feed, settings.stack.venue)
    await publisher.recover()
    await publisher.publish_definitions()
    for number in range(1, STEPS + 1):
        step = feed.step(number)
        assert step is not None
        await publisher.publish(step)
    return [(frame.subject, frame.payload) for frame in broker.stream(MD_BARS).frames.values()]
