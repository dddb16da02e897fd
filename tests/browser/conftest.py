"""A dashboard with a week of made-up messages, served from a thread of its own, and a Chromium to look at it."""

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from services.dashboard.config import DashboardConfig
from services.dashboard.service import DashboardService
from services.dashboard.web import WebServer
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.port import Delivery
from shared.bus.streams import BUCKETS, STREAMS
from shared.clock import wall_ns
from shared.messages import Command, CommandReply, Message
from shared.testing.parts import require
from shared.testing.samples import decision, heartbeat, venue_now, week


class DashboardDemo:
    """Run the real page over an in-memory bus; `commands` are the verbs that risk was asked."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.commands: list[str] = []
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def decide(self, note: str) -> None:
        self._loop.call_soon_threadsafe(self._service.hear, decision(60, "downside", note))

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        bus = MemoryBus(MemoryBroker(), service="dashboard")
        await bus.connect()
        await bus.bootstrap(STREAMS, BUCKETS)
        await bus.respond("cmd.risk.*", self._answer)
        config = DashboardConfig(port=self.port, push_interval_s=0.1)
        self._service = DashboardService(
            bus, config, venue="sandbox", web=lambda service: WebServer(service, config, mode="sandbox")
        )
        await self._service.start()
        for message in (*week(wall_ns()), *venue_now(wall_ns())):
            self._service.hear(message)
        self._ready.set()
        while not self._stop.is_set():
            for name in ("market_data", "rebalancer", "risk", "execution", "recorder", "dashboard"):
                self._service.hear(heartbeat(name, wall_ns()))
            await asyncio.wait([asyncio.ensure_future(self._stop.wait())], timeout=1)
        await self._service.drain()
        await bus.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _answer(self, delivery: Delivery) -> Message:
        assert isinstance(delivery.message, Command)
        self.commands.append(delivery.message.verb)
        return CommandReply(ok=True, detail="halted for the test", correlation_id="", result="{}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    require("browser", chromium is not None, "Chromium is not on PATH (Debian: apt-get install chromium)")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        started.close()


@pytest.fixture
def demo() -> Iterator[DashboardDemo]:
    running = DashboardDemo()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return where screenshots go: CASCADE_SCREENSHOTS, so that a person can look at them, or a throw-away folder."""
    kept = os.environ.get("CASCADE_SCREENSHOTS")
    folder = Path(kept) if kept else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder
