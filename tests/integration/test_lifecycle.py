"""A service's life in a real process: waiting for the bus, ready, crashed, drained, misconfigured."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.bus.nats import NatsBus
from shared.bus.port import Delivery
from shared.messages import Heartbeat, schema_hash
from shared.testing.nats import RealNats, nats_binary

pytestmark = [pytest.mark.nats, pytest.mark.timeout(60)]

PROGRAM = """
import asyncio
from shared.lifecycle import Runtime, run

class Tiny:
    def __init__(self, runtime):
        self.runtime = runtime
        self.seen = runtime.metrics.counter("seen", "Messages seen")
    async def start(self):
        await self.runtime.bus.subscribe("tiny.>", self.on_message)
    async def on_message(self, delivery):
        self.seen.inc()
        if delivery.subject == "tiny.crash":
            raise ZeroDivisionError("a programmer's error")
    async def drain(self):
        print("tiny drained", flush=True)

async def build(runtime):
    return Tiny(runtime)

run("tiny", build)
"""


class Process:
    """Run the tiny service against a server that may not be there yet."""

    def __init__(self, folder: Path, nats: RealNats, **environ: str) -> None:
        self.port_file = folder / "port"
        self.log_path = folder / "log"
        own = {
            "CASCADE_NATS_URL": nats.url,
            "CASCADE_PORT_FILE": str(self.port_file),
            "CASCADE_STATE_DIR": str(folder),
            "CASCADE_BUILD": "build-7",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], env=kept | own | environ, stdout=log, stderr=subprocess.STDOUT
            )

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a health page; (0, "") while nothing answers."""
        try:
            url = f"http://127.0.0.1:{self.port_file.read_text()}{path}"
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Poll until the condition holds."""
        for _ in range(600):
            if condition():
                return
            await asyncio.sleep(0.05)
        pytest.fail(f"never happened: {what}\n{self.log_path.read_text()}")

    async def end(self) -> int:
        """Wait for the process and return its exit code."""
        return await asyncio.to_thread(self.process.wait, 20)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[RealNats]:
    server = RealNats(tmp_path / "nats", nats_binary())
    yield server
    server.kill()


@pytest.fixture
def tiny(tmp_path: Path, nats: RealNats) -> Iterator[Process]:
    process = Process(tmp_path, nats)
    yield process
    process.process.kill()
    process.process.wait()


async def client(nats: RealNats) -> NatsBus:
    errors: list[BaseException] = []
    bus = NatsBus(nats.url, service="test", on_fatal=errors.append)
    await bus.connect()
    return bus


async def test_a_service_waits_for_the_bus_and_says_so(tiny: Process, nats: RealNats) -> None:
    await tiny.until(lambda: tiny.get("/readyz")[0] == 503, what="unready")
    assert "waiting for the message bus" in tiny.get("/readyz")[1]
    assert tiny.get("/healthz")[0] == 200
    nats.start()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 200, what="ready")


async def test_a_service_that_waits_for_the_bus_can_be_stopped(tiny: Process) -> None:
    await tiny.until(lambda: tiny.get("/readyz")[0] == 503, what="unready")
    tiny.process.send_signal(signal.SIGTERM)
    assert await tiny.end() == 0


async def test_a_ready_service_beats_with_build_and_schema(tiny: Process, nats: RealNats) -> None:
    nats.start()
    bus = await client(nats)
    beats: list[Heartbeat] = []

    async def hear(delivery: Delivery) -> None:
        if isinstance(delivery.message, Heartbeat):
            beats.append(delivery.message)

    await bus.subscribe("hb.tiny.>", hear)
    await tiny.until(lambda: any(beat.ready for beat in beats), what="a ready heartbeat")
    assert (beats[-1].build, beats[-1].schema_hash) == ("build-7", schema_hash())
    assert beats[-1].pid == tiny.process.pid
    assert "cascade_tiny_seen_total 0.0" in tiny.get("/metrics")[1]
    await bus.close()


async def test_losing_the_bus_makes_a_service_unready_not_dead(tiny: Process, nats: RealNats) -> None:
    nats.start()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 200, what="ready")
    nats.kill()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 503, what="unready")
    nats.start()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 200, what="ready again")
    assert tiny.process.poll() is None


async def test_a_programmer_error_ends_the_process(tiny: Process, nats: RealNats) -> None:
    nats.start()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 200, what="ready")
    bus = await client(nats)
    bus.publish_lossy(
        "tiny.crash", Heartbeat("x", "0", "b", "h", 1, ready=True, detail="", started_at_ns=0, sent_at_ns=0)
    )
    assert await tiny.end() == 1
    await bus.close()
    crashed = [json.loads(line) for line in tiny.log_path.read_text().splitlines() if '"crashed"' in line]
    assert "ZeroDivisionError" in crashed[0]["error"]


async def test_sigterm_drains_and_ends_cleanly(tiny: Process, nats: RealNats) -> None:
    nats.start()
    await tiny.until(lambda: tiny.get("/readyz")[0] == 200, what="ready")
    tiny.process.send_signal(signal.SIGTERM)
    assert await tiny.end() == 0
    assert "tiny drained" in tiny.log_path.read_text()


async def test_a_bad_configuration_ends_with_2_and_names_the_key(tmp_path: Path, nats: RealNats) -> None:
    process = Process(tmp_path, nats, CASCADE_STACK__ASETS="A,B")
    assert await process.end() == 2
    assert "stack.asets is no setting: did you mean 'assets'?" in process.log_path.read_text()
