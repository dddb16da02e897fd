"""Run the market: pace the steps, publish them, say how the feed does, obey pause and resume.

In: participants' progress and heartbeats, operator commands. Out: the steps, `md.status.<venue>` each second.
Never: a step before everybody has finished the one before, quotes invented for a replay (only bars are known).

The status says what the next step waits for, never more: a feed that waits for a laggard is still live, and it is
called frozen or ended only when every participant has finished the last step, so no order of that step is refused
because of it. After the end the service stays up: the supervisor ends the run.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from services.market_data.config import MarketDataConfig
from services.market_data.core.feed import Feed
from services.market_data.core.pacing import Go, LastStep, Wait, laggards, next_step, pace_for
from services.market_data.desk import NO_COMMAND, FeedReport, OperatorDesk
from services.market_data.guard import NAME, QualityGuard
from services.market_data.publisher import StepPublisher
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.bus.streams import STATE_BUCKET
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.config import timeframe_ns
from shared.errors import BusUnavailableError
from shared.logs import Log
from shared.messages import (
    Command,
    FeedState,
    Heartbeat,
    MarketStatus,
    Message,
    Progress,
)
from shared.metrics import Metrics

STATUS_INTERVAL_S = 1.0
WARN_INTERVAL_NS = 5 * NANOSECONDS_PER_SECOND
WAIT_MAX_NS = NANOSECONDS_PER_SECOND
RETRY_S, RETRY_MAX_S = 0.1, 5.0

Spawn = Callable[[Awaitable[None], str], asyncio.Task[None]]


class MarketDataService:
    """Publish a feed, step by step, on `venue`'s subjects."""

    def __init__(
        self,
        bus: Bus,
        feed: Feed,
        config: MarketDataConfig,
        *,
        venue: str,
        spawn: Spawn,
        metrics: Metrics,
        log: Log,
        read_monotonic_ns: Callable[[], int] = monotonic_ns,
        read_wall_ns: Callable[[], int] = wall_ns,
        on_detail: Callable[[str], None] | None = None,
    ) -> None:
        self._bus, self._feed, self._config, self._venue = bus, feed, config, venue
        self._spawn, self._log = spawn, log
        self._monotonic_ns = read_monotonic_ns
        self._on_detail = on_detail
        self._publisher = StepPublisher(bus, feed, venue)
        self._guard = QualityGuard(bus, venue, config.limits, metrics=metrics, log=log)
        self._desk = OperatorDesk(bus, self._release, lambda: self.report, log=log, read_wall_ns=read_wall_ns)
        self._pace = pace_for(timeframe_ns(feed.timeframe), config.speed_factor, config.participant_names)
        self._last: LastStep | None = None
        self._progress: dict[str, int] = {}
        self._alive: set[str] = set()
        self._is_paused = self._is_stopping = self._is_through = False
        self._changed = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._wait_began_ns = self._warned_ns = 0
        self._steps_published = metrics.counter("steps_published", "Steps that are complete in the stream")
        self._retries = metrics.counter("publish_retries", "Steps whose publication had to be repeated")
        self._last_close = metrics.gauge("last_close_time_seconds", "Market time of the newest step, Unix seconds")
        waiting = metrics.counter("waiting_seconds", "Time that the next step waited for a participant", ["service"])
        self._waiting = {name: waiting.labels(name) for name in config.participant_names}

    @property
    def report(self) -> FeedReport:
        """Return where the feed is and what the next step waits for."""
        late = laggards(self._pace, self._last, self._progress, self._alive)
        state, reason = self._state(late)
        if self._guard.frozen:
            reason += f"; frozen until released: {', '.join(sorted(self._guard.frozen))}"
        last = self._publisher.last
        return FeedReport(
            feed=self._feed.description,
            state=state,
            reason=reason,
            step=0 if last is None else last.step,
            close_time_ns=0 if last is None else last.close_time_ns,
            speed=self._config.speed,
            paused=self._is_paused,
            waiting_for=late,
            frozen=self._guard.frozen,
        )

    async def start(self) -> None:
        """Continue where the stream ends; returns when participants can be heard and commands are answered."""
        await self._publisher.recover()
        await self._guard.load(self._publisher.newest)
        await self._publisher.publish_definitions()
        self._is_paused = await self._bus_paused() is not None
        if self._publisher.last is not None:
            self._last = LastStep(self._publisher.last.close_time_ns, self._monotonic_ns())
        self._subscriptions = [
            await self._bus.subscribe("progress.*", self._on_progress),
            await self._bus.subscribe("hb.*.*", self._on_heartbeat),
            await self._bus.respond(subjects.command(NAME, "pause"), self._on_pause),
            await self._bus.respond(subjects.command(NAME, "resume"), self._on_resume),
            *await self._desk.open(),
        ]
        self._log.info("feed", feed=self._feed.description, next_step=self._publisher.next_number)
        self._tasks = [
            self._spawn(self._publish_forever(), "steps"),
            self._spawn(self._report_forever(), "status"),
        ]

    async def drain(self) -> None:
        """Finish the step that is being published, then stop."""
        self._is_stopping = True
        self._changed.set()
        if self._tasks:
            await asyncio.wait(self._tasks[:1])
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions:
            await subscription.stop()

    async def _publish_forever(self) -> None:
        while (step := self._feed.step(self._publisher.next_number)) is not None:
            go = await self._until_go()
            if go is None:
                return
            delay_s = RETRY_S
            while True:
                try:
                    await self._publisher.publish(await self._guard.screen(step))
                    break
                except BusUnavailableError as error:
                    self._retries.inc()
                    self._log.warning("publish_retried", step=step.number, error=str(error))
                if await self._stopped_within(delay_s * random.uniform(0.5, 1.0)):
                    return
                delay_s = min(delay_s * 2, RETRY_MAX_S)
            self._last = LastStep(step.close_time_ns, go.published_at_ns)
            self._steps_published.inc()
            self._last_close.set(step.close_time_ns / NANOSECONDS_PER_SECOND)
        self._is_through = True
        self._log.info("feed_through", step=self._publisher.next_number - 1)

    async def _until_go(self) -> Go | None:
        """Wait until the next step may be published; None when the service stops first."""
        self._wait_began_ns = self._warned_ns = self._monotonic_ns()
        while not self._is_stopping:
            self._changed.clear()
            now_ns = self._monotonic_ns()
            verdict = next_step(self._pace, self._last, self._progress, self._alive, now_ns)
            if isinstance(verdict, Go):
                if not self._is_paused:
                    return verdict
                verdict = Wait(wait_ns=None, laggards=())
            self._warn(verdict, now_ns)
            wait_ns = WAIT_MAX_NS if verdict.wait_ns is None else min(verdict.wait_ns, WAIT_MAX_NS)
            await self._changed_within(wait_ns / NANOSECONDS_PER_SECOND)
            waited_s = (self._monotonic_ns() - now_ns) / NANOSECONDS_PER_SECOND
            for name in verdict.laggards:
                self._waiting[name].inc(waited_s)
        return None

    def _warn(self, verdict: Wait, now_ns: int) -> None:
        if verdict.wait_ns is not None or not verdict.laggards:
            # Nobody is late yet: the wall pace, or a pause, holds the step back.
            self._wait_began_ns = self._warned_ns = now_ns
        elif now_ns - self._warned_ns >= WARN_INTERVAL_NS:
            self._warned_ns = now_ns
            self._log.warning(
                "waiting_for_participants",
                participants=verdict.laggards,
                step=self._publisher.next_number,
                waited_s=round((now_ns - self._wait_began_ns) / NANOSECONDS_PER_SECOND, 1),
            )

    async def _changed_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _stopped_within(self, seconds: float) -> bool:
        end_ns = self._monotonic_ns() + int(seconds * NANOSECONDS_PER_SECOND)
        while not self._is_stopping and (left_ns := end_ns - self._monotonic_ns()) > 0:
            self._changed.clear()
            await self._changed_within(left_ns / NANOSECONDS_PER_SECOND)
        return self._is_stopping

    async def _report_forever(self) -> None:
        while True:
            self._send_status()
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _send_status(self) -> None:
        report = self.report
        status = MarketStatus(
            venue=self._venue,
            instrument=None,
            state=report.state,
            reason=report.reason,
            ts_event_ns=report.close_time_ns,
        )
        self._bus.publish_lossy(subjects.status(self._venue), status)
        self._guard.send_status(report.close_time_ns)
        if self._on_detail is not None:
            self._on_detail(f"{report.feed}: {report.reason}")

    def _state(self, late: tuple[str, ...]) -> tuple[FeedState, str]:
        if late:
            began = "the first step" if self._last is None else f"step {self._publisher.next_number}"
            what = "the end" if self._is_through else began
            return FeedState.LIVE, f"{what} waits for {', '.join(late)}"
        if self._is_through:
            return FeedState.ENDED, f"ended after step {self._publisher.next_number - 1}"
        if self._is_paused:
            return FeedState.FROZEN, "paused by an operator"
        speed = self._config.speed_factor
        return FeedState.LIVE, "as fast as its participants" if speed is None else f"{speed:g} times real time"

    async def _on_progress(self, delivery: Delivery) -> None:
        report = delivery.message
        if isinstance(report, Progress) and report.venue == self._venue and report.service in self._waiting:
            # The newest report counts, even a lower one: a participant that lost its state has to work it off again.
            self._progress[report.service] = report.close_time_ns
            self._changed.set()

    async def _on_heartbeat(self, delivery: Delivery) -> None:
        beat = delivery.message
        if isinstance(beat, Heartbeat) and beat.ready and beat.service in self._waiting:
            self._alive.add(beat.service)
            self._changed.set()

    async def _on_pause(self, delivery: Delivery) -> Message:
        return await self._set_paused(delivery, paused=True)

    async def _on_resume(self, delivery: Delivery) -> Message:
        return await self._set_paused(delivery, paused=False)

    async def _release(self, instrument: str) -> bool:
        is_released = await self._guard.release(instrument)
        if is_released:
            self._send_status()
        return is_released

    async def _set_paused(self, delivery: Delivery, *, paused: bool) -> Message:
        command = delivery.message
        if not isinstance(command, Command):
            return NO_COMMAND
        await self._desk.audit(delivery.subject, command)
        bucket = await self._bus.key_value(STATE_BUCKET)
        if paused:
            await bucket.put(self._paused_key, command.user.encode())
        else:
            await bucket.delete(self._paused_key)
        self._is_paused = paused
        self._changed.set()
        self._log.info("paused" if paused else "resumed", user=command.user, correlation_id=command.correlation_id)
        self._send_status()
        return self._desk.reply(command.correlation_id, "paused after this step" if paused else "resumed")

    @property
    def _paused_key(self) -> str:
        return f"{NAME}.{self._venue}.paused"

    async def _bus_paused(self) -> bytes | None:
        entry = await (await self._bus.key_value(STATE_BUCKET)).get(self._paused_key)
        return None if entry is None else entry.value
