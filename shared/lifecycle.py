"""The one way to run a service: config -> adapters -> ready -> run -> drain -> stop.

In: a name and a function that builds the service. Out: a process that answers /metrics, /healthz and /readyz, sends
heartbeats, drains on SIGTERM or SIGINT, and exits: 0 after a drain, 2 for a configuration that cannot work (no restart
helps), 3 for a full disk (tried again until there is space), 1 for a programmer error (the supervisor restarts it, and
startup is recovery).
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn, Protocol

import msgspec

from shared.bus import subjects
from shared.bus.nats import NatsBus
from shared.bus.port import Bus
from shared.clock import Clock, MarketClock, SystemClock, wall_ns
from shared.config import Settings, load_settings
from shared.errors import ConfigError, InputError, UnavailableError
from shared.full_disk import is_full_disk
from shared.health import Health, HealthServer
from shared.logs import Log, configure_logs
from shared.messages import Heartbeat, Progress, schema_hash
from shared.metrics import Metrics

EXIT_CRASH = 1
EXIT_CONFIG = 2
EXIT_DISK_FULL = 3
HEARTBEAT_INTERVAL_S = 1.0
DRAIN_TIMEOUT_S = 10.0


class ProcessConfig(msgspec.Struct, frozen=True):
    """Say where a process finds its surroundings; the supervisor or compose sets these variables."""

    nats_url: str
    nkey_file: Path | None
    settings_file: Path | None
    state_dir: Path
    http_host: str
    http_port: int
    port_file: Path | None
    instance: str
    build: str

    @classmethod
    def from_environment(cls) -> "ProcessConfig":
        """Read CASCADE_NATS_URL, _NKEY_FILE, _SETTINGS, _STATE_DIR, _HTTP_HOST, _HTTP_PORT and others of our own.

        With CASCADE_PORT_FILE another port than CASCADE_HTTP_PORT may be taken; the file then tells which.
        """
        read = os.environ.get
        nkey_file, settings_file = read("CASCADE_NKEY_FILE"), read("CASCADE_SETTINGS")
        port, port_file = read("CASCADE_HTTP_PORT", "0"), read("CASCADE_PORT_FILE")
        if not port.isdecimal():
            raise ConfigError(f"CASCADE_HTTP_PORT must be a port number, got {port!r}")
        return cls(
            nats_url=read("CASCADE_NATS_URL", "nats://127.0.0.1:4222"),
            nkey_file=Path(nkey_file) if nkey_file else None,
            settings_file=Path(settings_file) if settings_file else None,
            state_dir=Path(read("CASCADE_STATE_DIR", "var/sandbox-mexc")),
            http_host=read("CASCADE_HTTP_HOST", "127.0.0.1"),
            http_port=int(port),
            port_file=Path(port_file) if port_file else None,
            instance=read("CASCADE_INSTANCE", "0"),
            build=read("CASCADE_BUILD", "dev"),
        )


class Service(Protocol):
    """Be run by the lifecycle."""

    async def start(self) -> None:
        """Recover, subscribe, and return when ready to work."""
        ...

    async def drain(self) -> None:
        """Stop taking work, finish what was begun, flush."""
        ...


class Runtime:
    """Hand a service everything that is not its own: settings, bus, clock, metrics, log."""

    bus: Bus

    def __init__(self, name: str, process: ProcessConfig, settings: Settings, log: Log) -> None:
        self.name = name
        self.process = process
        self.settings = settings
        self.log = log
        self.metrics = Metrics(name)
        self.venue = settings.stack.venue
        self.state_dir = process.state_dir
        self.clock: Clock = SystemClock() if settings.stack.mode.is_wire else MarketClock()
        self.detail = "starting"
        self.is_ready = False
        self.started_at_ns = wall_ns()
        self._progress_ns: int | None = None
        self._error: BaseException | None = None
        self._stop = asyncio.Event()

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on, in modes where time is the market's; elsewhere the machine's clock goes by itself."""
        if isinstance(self.clock, MarketClock):
            self.clock.advance(to_ns)

    def report_progress(self, close_time_ns: int) -> None:
        """Say that everything up to market time `close_time_ns` is finished; repeated until the next report."""
        if self._progress_ns is None or close_time_ns >= self._progress_ns:
            self._progress_ns = close_time_ns
            self._send_progress()

    def fail(self, error: BaseException) -> None:
        """End the process because of a programmer error."""
        self._error = self._error or error
        self._stop.set()

    def stop(self) -> None:
        """Ask for a drain and a clean exit."""
        self._stop.set()

    def health(self) -> Health:
        """Return what /healthz and /readyz answer."""
        ready = self.is_ready and self.bus.is_connected
        detail = self.detail if self.bus.is_connected else "waiting for the message bus"
        return Health(self.name, healthy=self._error is None, ready=ready, detail=detail)

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the service; its failure ends the process."""
        task = asyncio.ensure_future(_as_coroutine(work))
        task.set_name(name)
        task.add_done_callback(self._watch)
        return task

    async def heartbeat_forever(self) -> None:
        """Send heartbeats and the newest progress, about once a second."""
        while True:
            health = self.health()
            beat = Heartbeat(
                service=self.name,
                instance=self.process.instance,
                build=self.process.build,
                schema_hash=schema_hash(),
                pid=os.getpid(),
                ready=health.ready,
                detail=health.detail,
                started_at_ns=self.started_at_ns,
                sent_at_ns=wall_ns(),
            )
            self.bus.publish_lossy(subjects.heartbeat(self.name, self.process.instance), beat)
            self._send_progress()
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)

    async def until_stopped(self) -> BaseException | None:
        """Wait for a stop request (None) or the error that ends the process."""
        await self._stop.wait()
        return self._error

    def _send_progress(self) -> None:
        if self._progress_ns is not None:
            report = Progress(service=self.name, venue=self.venue, close_time_ns=self._progress_ns)
            self.bus.publish_lossy(subjects.progress(self.name), report)

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


Build = Callable[[Runtime], Awaitable[Service]]


def run(name: str, build: Build) -> NoReturn:
    """Run the service until it is told to stop; never returns."""
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - Windows has no uvloop; asyncio's own loop serves there.

        uvloop.install()
    state_dir = Path()
    try:
        process = ProcessConfig.from_environment()
        state_dir = process.state_dir
        settings = load_settings(process.settings_file)
        code = asyncio.run(_live(name, process, settings, build))
    except (ConfigError, InputError) as error:
        exit_if_full_disk(name, error, state_dir)
        sys.stderr.write(f"{name}: {error}\n")
        code = EXIT_CONFIG
    except Exception as error:
        exit_if_full_disk(name, error, state_dir)
        raise
    sys.exit(code)


def exit_if_full_disk(name: str, error: BaseException, directory: Path) -> None:
    """End the process with its own exit code if a full disk, that of `directory`, is why it cannot go on."""
    if not is_full_disk(error, directory):
        return
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{name}: {directory}: the disk is full ({error!r}): nothing is done until there is space\n")
        sys.stderr.flush()
    # Not `sys.exit`: what the streams could not write fails there again, and with it the exit code.
    os._exit(EXIT_DISK_FULL)


async def _live(name: str, process: ProcessConfig, settings: Settings, build: Build) -> int:
    log = configure_logs(name, process.instance)
    runtime = Runtime(name, process, settings, log)
    bus = NatsBus(process.nats_url, service=name, nkey_file=process.nkey_file, on_fatal=runtime.fail)
    runtime.bus = bus
    runtime.metrics.plain_counters("bus_messages", "Messages by what became of them", bus.counters)
    health = HealthServer(process.http_host, process.http_port, runtime.metrics.registry, runtime.health)
    await health.start(fall_back=process.port_file is not None)
    if process.port_file is not None:
        _announce(process.port_file, health.bound_port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.stop)
    try:
        return await _serve(runtime, build)
    finally:
        await health.stop()


def _announce(path: Path, port: int) -> None:
    written = path.with_suffix(".new")
    written.write_text(str(port), encoding="ascii")
    written.replace(path)


async def _serve(runtime: Runtime, build: Build) -> int:
    runtime.detail = "waiting for the message bus"
    if not await _unless_stopped(runtime, runtime.bus.connect()):
        return 0
    runtime.detail = "recovering"
    service = await build(runtime)
    beats = runtime.spawn(runtime.heartbeat_forever(), "heartbeat")
    if not await _unless_stopped(runtime, service.start()):
        runtime.log.info("stopped_while_starting")
    else:
        # What the start has made lives until the end: no collection need walk it again, in the middle of an order.
        gc.collect()
        gc.freeze()
        runtime.is_ready, runtime.detail = True, "running"
        runtime.log.info("ready", schema_hash=schema_hash(), build=runtime.process.build)
    error = await runtime.until_stopped()
    runtime.is_ready, runtime.detail = False, "draining"
    if error is not None:
        exit_if_full_disk(runtime.name, error, runtime.state_dir)
        runtime.log.error("crashed", error=repr(error), exc_info=error)
        return EXIT_CRASH
    await _drain(runtime, service)
    beats.cancel()
    return 0


async def _unless_stopped(runtime: Runtime, work: Awaitable[None]) -> bool:
    task = asyncio.ensure_future(_as_coroutine(work))
    ended = asyncio.ensure_future(_stopped(runtime))
    await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        ended.cancel()
        task.result()
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


async def _stopped(runtime: Runtime) -> None:
    await runtime.until_stopped()


async def _drain(runtime: Runtime, service: Service) -> None:
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            await service.drain()
            await runtime.bus.close()
    except (TimeoutError, UnavailableError) as error:
        # Nothing is lost: what was not acknowledged is delivered again at the next start.
        runtime.log.warning("drain_incomplete", error=repr(error))
    else:
        runtime.log.info("drained")


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work
