"""A recorder on the in-memory bus with a real store, to be killed, starved and started again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from services.recorder.config import RecorderConfig
from services.recorder.service import RecorderReport, RecorderService, Surroundings
from services.recorder.telemetry import Telemetry
from services.recorder.writer import Writer
from shared.bus import subjects
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.bus.streams import BUCKETS, STREAMS
from shared.messages import AnyMessage, Command, CommandReply
from shared.metrics import Metrics
from shared.store.duck import open_store
from shared.store.parquet import ParquetStore
from shared.testing.disk import SickDisk

NOW_NS = 1_780_000_000_000_000_000


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Poll until the condition holds; fails the test when it does not in time."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread, too
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail("the condition did not come true in time")


class Stage:
    """Hold a broker, a publisher and at most one recorder at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.broker = MemoryBroker()
        self.fatal: list[BaseException] = []
        self.disk = SickDisk()
        self.progress: list[int] = []
        self.health: list[tuple[bool, str]] = []
        self.publisher = self._bus("publisher")
        self._tasks: list[asyncio.Task[None]] = []
        self._recorder_bus: MemoryBus | None = None
        self._store: ParquetStore | None = None
        self.service: RecorderService | None = None

    async def begin(self) -> None:
        await self.publisher.connect()
        await self.publisher.bootstrap(STREAMS, BUCKETS)

    async def start(self, **settings: object) -> RecorderService:
        """Start a recorder process."""
        config = RecorderConfig(**{"flush_interval_s": 0.05} | settings)
        self._recorder_bus = self._bus("recorder")
        await self._recorder_bus.connect()
        self._store = ParquetStore(self.root, lambda: NOW_NS, config.store_options, self.disk)
        self.service = RecorderService(
            self._recorder_bus,
            Writer(self._store),
            config,
            root=self.root,
            venue="sandbox",
            telemetry=Telemetry(Metrics("recorder")),
            around=Surroundings(
                spawn=self._spawn,
                log=structlog.get_logger(),
                report_progress=self.progress.append,
                on_health=lambda ready, detail: self.health.append((ready, detail)),
            ),
        )
        await self.service.start()
        return self.service

    async def kill(self) -> None:
        """End the recorder as kill -9 does: nothing is flushed, nothing acknowledged."""
        assert self._recorder_bus is not None
        assert self._store is not None
        self._recorder_bus.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._store.close()
        self.service = None

    async def drain(self) -> None:
        """End the recorder as SIGTERM does."""
        assert self.service is not None
        await self.service.drain()
        self._tasks.clear()
        self.service = None

    async def end(self) -> None:
        if self.service is not None:
            self.disk.fails = frozenset()
            await self.drain()
        assert self.fatal == []

    async def command(self, verb: str) -> CommandReply:
        request = Command(verb, "tester", "because", f"correlation-{verb}", "{}", NOW_NS)
        reply = await self.publisher.request(subjects.command("recorder", verb), request)
        assert isinstance(reply, CommandReply)
        return reply

    def report(self) -> RecorderReport:
        assert self.service is not None
        return self.service.report

    def recorded(self, table: str) -> list[AnyMessage]:
        with open_store(self.root) as reader:
            return list(reader.read_messages(table))

    def rows(self, table: str) -> int:
        with open_store(self.root) as reader:
            ((rows,),) = reader.query(f"SELECT count(*) FROM raw.{table}").rows
        assert isinstance(rows, int)
        return rows

    def _bus(self, service: str) -> MemoryBus:
        return MemoryBus(self.broker, service=service, on_fatal=self.fatal.append)

    def _spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        task.add_done_callback(self._watch)
        self._tasks.append(task)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fatal.append(error)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path / "store")
    await stage.begin()
    yield stage
    await stage.end()
