"""Receive everything, write it, then acknowledge it.

In: the streams, and what travels without one. Out: rows in the store, progress, `cmd.recorder.flush|status`.
Never: an acknowledgement before the row is on disk; a write on the event loop; a loss that is not counted.

Commands are not listened to: a listener would hide that the service they are for is down. Each service records them on
`audit.<service>`; the recorder, whose key may not publish what it reads, writes its own audit into the store directly.
For the same reason it has no consumer on the dead letters and follows that stream by reading on from the last one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from services.recorder.config import RecorderConfig
from services.recorder.core import Buffer, Gaps, Limits
from services.recorder.flusher import Flusher
from services.recorder.housekeeping import Housekeeping
from services.recorder.intake import NAME, Intake, message_hash
from services.recorder.past import Past, read_past
from services.recorder.telemetry import Telemetry
from services.recorder.ticket import Kept, Ticket
from services.recorder.writer import Writer
from shared.bus import streams, subjects
from shared.bus.port import Bus, Delivery, PendingAck, Subscription
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.errors import BusUnavailableError, DeferError, InputError, StoreUnavailableError
from shared.logs import Log
from shared.messages import BarsClosed, Command, CommandAudit, CommandReply, Message, encode
from shared.store.port import Rejected

CONSUMED = (
    streams.ORDERS, streams.ACCOUNTS, streams.RISK, streams.DECISIONS, streams.AUDIT, streams.MD_BARS,
)  # fmt: skip
LOSSY = ("md.trade.>", "md.book.>", "md.bbo.>", "md.status.>", "sig.>", "hb.>", "progress.>")
DEAD_PAGE = 500
DEAD_INTERVAL_S = 1.0
TIDY_INTERVAL_S = 1.0
TIDY_STEPS_MAX = 50
FLUSH_TIMEOUT_S = 30.0
QUEUED_GRACE_S = 0.05

Spawn = Callable[[Awaitable[None], str], asyncio.Task[None]]


class Surroundings(msgspec.Struct, frozen=True):
    """Hold what the process gives the recorder besides bus and store; `on_health` takes ready and a reason."""

    spawn: Spawn
    log: Log
    report_progress: Callable[[int], None]
    on_health: Callable[[bool, str], None]
    read_monotonic_ns: Callable[[], int] = monotonic_ns
    read_wall_ns: Callable[[], int] = wall_ns


class RecorderReport(msgspec.Struct, frozen=True):
    """Answer `cmd.recorder.status`; `last_window_s` is the age of the oldest row of the last write when it was done."""

    rows_recorded: int
    backlog_rows: int
    backlog_bytes: int
    oldest_age_s: float
    flush_interval_s: float
    last_flush_s: float
    last_window_s: float
    trouble: str
    lost_rows: dict[str, int]


class RecorderService:
    """Record the bus of one venue's stack into the store behind `writer`, whose files lie under `root`."""

    def __init__(
        self,
        bus: Bus,
        writer: Writer,
        config: RecorderConfig,
        *,
        root: Path,
        venue: str,
        telemetry: Telemetry,
        around: Surroundings,
    ) -> None:
        self._bus, self._writer, self._config = bus, writer, config
        self._root, self._venue = root, venue
        self._telemetry, self._around = telemetry, around
        self._buffer: Buffer[Ticket] = Buffer(
            Limits(
                interval_ns=int(config.flush_interval_s * NANOSECONDS_PER_SECOND),
                rows_max=config.rows_max,
                pending_max=config.pending_max,
                bytes_max=config.bytes_max,
            )
        )
        self._housekeeping = Housekeeping()
        self._flusher = Flusher(
            self._buffer,
            writer,
            telemetry,
            read_monotonic_ns=around.read_monotonic_ns,
            on_rejected=self._give_up,
            on_trouble=self._on_trouble,
            on_flood=lambda: self._housekeeping.saw_flood(around.read_monotonic_ns()),
        )
        self._intake = Intake(
            bus,
            self._buffer,
            telemetry,
            around.log,
            read_monotonic_ns=around.read_monotonic_ns,
            read_wall_ns=around.read_wall_ns,
            on_row=self._flusher.on_row,
            on_step=self._on_step,
        )
        self._past = Past({}, None, frozenset())
        self._dead_next = 1
        self._is_draining = False
        self._subscriptions: list[Subscription] = []
        self._writing: asyncio.Task[None] | None = None
        self._beside: list[asyncio.Task[None]] = []
        telemetry.watch(lambda: self._buffer.rows, lambda: self._buffer.bytes, self._age_s)

    @property
    def report(self) -> RecorderReport:
        """Return how the recorder does."""
        return RecorderReport(
            rows_recorded=self._flusher.rows_recorded,
            backlog_rows=self._buffer.rows,
            backlog_bytes=self._buffer.bytes,
            oldest_age_s=round(self._age_s(), 3),
            flush_interval_s=self._config.flush_interval_s,
            last_flush_s=round(self._flusher.last_flush_s, 4),
            last_window_s=round(self._flusher.last_window_s, 4),
            trouble=self._flusher.trouble,
            lost_rows=dict(self._telemetry.counts),
        )

    async def start(self) -> None:
        """Repair the store, learn where the last run ended, subscribe; raises ConfigError or StoreUnavailableError."""
        repaired = await self._writer.open()
        self._telemetry.tidied(repaired)
        self._tell_damage(repaired.quarantined)
        self._past = await asyncio.to_thread(read_past, self._root, self._venue)
        self._intake.gaps = Gaps(self._past.last_sequences)
        self._writing = self._around.spawn(self._flusher.run(), "recorder-write")
        for pattern in LOSSY:
            await self._keep(
                self._bus.subscribe(pattern, self._intake.take_lossy, pending_max=self._config.pending_max)
            )
        for stream in CONSUMED:
            await self._consume(stream)
        await self._keep(self._bus.respond(subjects.command(NAME, "flush"), self._on_flush))
        await self._keep(self._bus.respond(subjects.command(NAME, "status"), self._on_status))
        self._beside = [
            self._around.spawn(self._follow_dead_letters(), "recorder-dead-letters"),
            self._around.spawn(self._tidy_forever(), "recorder-tidy"),
        ]
        await self._report_past_progress()

    async def drain(self) -> None:
        """Take what has arrived, stop, and write until nothing is left."""
        # What the client has queued is received already: let the handlers take it before they are stopped.
        await asyncio.sleep(QUEUED_GRACE_S)
        self._is_draining = True
        for subscription in self._subscriptions:
            await subscription.stop()
        for task in self._beside:
            task.cancel()
        if self._beside:
            await asyncio.wait(self._beside)
        self._flusher.finish()
        if self._writing is not None:
            await self._writing
        await self._writer.close()

    async def _keep(self, subscribing: Awaitable[Subscription]) -> None:
        self._subscriptions.append(await subscribing)

    async def _consume(self, stream: str) -> None:
        async def take(pending: PendingAck) -> None:
            await self._intake.take_durable(stream, pending)

        await self._keep(self._bus.consume_manually(stream, NAME, take, pending_max=self._config.pending_max))

    def _on_step(self, closed: BarsClosed) -> None:
        if closed.venue == self._venue:
            self._around.report_progress(closed.close_time_ns)

    async def _report_past_progress(self) -> None:
        """Say again which step was finished last, unless the stream has a newer one, which is delivered anyway."""
        step = self._past.newest_step
        if step is None:
            return
        newest = await self._bus.last(streams.MD_BARS, step.subject)
        if newest is not None and newest.stream_sequence == step.stream_sequence:
            self._around.report_progress(step.close_time_ns)

    def _give_up(self, rejected: Rejected) -> None:
        self._intake.give_up(rejected)

    def _on_trouble(self, trouble: str) -> None:
        if trouble:
            self._around.log.error("store_refuses", error=trouble, backlog_rows=self._buffer.rows)
        else:
            self._around.log.info("store_recovered")
        if not self._is_draining:
            self._around.on_health(not trouble, trouble or "running")

    def _tell_damage(self, paths: tuple[str, ...]) -> None:
        if paths:
            self._around.log.error("store_files_damaged", moved_to_quarantine=list(paths))

    async def _tidy_forever(self) -> None:
        while True:
            if self._housekeeping.is_due(self._around.read_monotonic_ns()):
                await self._tidy()
            await asyncio.sleep(TIDY_INTERVAL_S)

    async def _tidy(self) -> None:
        try:
            for _ in range(TIDY_STEPS_MAX):
                done = await self._writer.tidy()
                self._telemetry.tidied(done)
                self._tell_damage(done.quarantined)
                if not done.more:
                    return
        except StoreUnavailableError as error:
            self._around.log.warning("store_not_tidied", error=str(error))

    async def _follow_dead_letters(self) -> None:
        while True:
            try:
                await self._read_dead_letters()
            except (BusUnavailableError, DeferError) as error:
                self._around.log.warning("dead_letters_wait", error=str(error))
            await asyncio.sleep(DEAD_INTERVAL_S)

    async def _read_dead_letters(self) -> None:
        while True:
            page = await self._bus.history(streams.DEAD, "dead.>", start_sequence=self._dead_next, limit=DEAD_PAGE)
            for delivery in page:
                known = (delivery.stream_sequence, message_hash(encode(delivery.message)))
                if known not in self._past.dead_letters:
                    await self._intake.take_stored(streams.DEAD, delivery, Kept())
                self._dead_next = delivery.stream_sequence + 1
            if len(page) < DEAD_PAGE:
                return

    async def _on_flush(self, delivery: Delivery) -> Message:
        command = _command(delivery)
        audit = CommandAudit(NAME, command, self._around.read_wall_ns())
        if not self._intake.take_own(subjects.audit(NAME), audit):
            return self._reply(command, ok=False, detail="not flushed: the disk is behind and memory is full")
        obstacle = await self._flusher.until_on_disk(FLUSH_TIMEOUT_S)
        if obstacle:
            return self._reply(command, ok=False, detail=f"not flushed: {obstacle}")
        return self._reply(command, ok=True, detail="everything received so far is on disk")

    async def _on_status(self, delivery: Delivery) -> Message:
        waiting = f"{self._buffer.rows} rows wait, the oldest for {self._age_s():.1f} s"
        return self._reply(_command(delivery), ok=True, detail=self._flusher.trouble or waiting)

    def _reply(self, command: Command, *, ok: bool, detail: str) -> CommandReply:
        result = msgspec.json.encode(self.report).decode()
        return CommandReply(ok=ok, detail=detail, correlation_id=command.correlation_id, result=result)

    def _age_s(self) -> float:
        return self._buffer.age_ns(self._around.read_monotonic_ns()) / NANOSECONDS_PER_SECOND


def _command(delivery: Delivery) -> Command:
    if not isinstance(delivery.message, Command):
        raise InputError(f"{delivery.subject} takes a Command")
    return delivery.message
