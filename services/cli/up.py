"""`cascade up`: validate everything, start everything, show it, stop everything.

In: a person's options. Out: a running stack, an exit code, a summary when the market has an end.
Never: a process before the whole configuration is valid, two stacks in one state directory, a process left behind.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console

from services.cli.broker import nats_spec, nats_url
from services.cli.questdb_local import questdb_spec
from services.cli.resolve import Resolved, UpOptions, resolve
from services.cli.runfile import RUN_FILE, RunFile, StateLock, read_run, stop_leftovers, unusable, write_run
from services.cli.stack import build_name, child_environment, service_specs, with_dashboard_port, write_settings
from services.cli.statedir import mark_finished, prepare_state_dir
from services.cli.stdin import stdin_ends
from services.cli.summary import Summary, summary_json
from services.cli.supervisor.child import ChildStatus, ProcessSpec
from services.cli.supervisor.order import Phase
from services.cli.supervisor.runner import Outcome, Supervisor
from services.cli.venue import with_sandbox
from services.cli.view import LiveView, PlainView, View, summary_view
from services.cli.watch import Watch
from shared.clock import wall_ns
from shared.config import Mode, StackConfig
from shared.errors import InputError
from shared.exchange.access import LIVE_SWITCH, access_of, trading_wire
from shared.messages import schema_hash

REFRESH_S = 0.25
LOCK_TRIES = 5


class Stack:
    """Run one resolved stack to its end."""

    def __init__(
        self, resolved: Resolved, *, fresh: bool, as_json: bool, questdb: bool = False, stop_with_stdin: bool = False
    ) -> None:
        self._resolved, self._fresh, self._as_json, self._with_questdb = resolved, fresh, as_json, questdb
        self._stop_with_stdin = stop_with_stdin
        self._state_dir = resolved.state_dir
        self._console = Console(stderr=as_json)
        self._participants = resolved.market_data.participant_names
        self._is_dirty, self._is_blind = True, False
        self._watch = Watch(resolved.settings.stack, self._participants, on_finished=self._finish)
        self._summary: Summary | None = None

    async def run(self) -> Outcome:
        """Start, watch, stop; raises InputError when the directory is taken, ConfigError when it does not fit."""
        lock = StateLock(self._state_dir)
        await _take(lock, self._state_dir)
        try:
            try:
                about = self._begin()
            except OSError as error:
                raise unusable(self._state_dir, error) from error
            return await self._supervise(about)
        finally:
            (self._state_dir / RUN_FILE).unlink(missing_ok=True)
            lock.release()

    def print_summary(self) -> None:
        """Print the summary, if the run came to its end: JSON on standard output, or a table."""
        if self._summary is None:
            self._console.print("stopped; the same command goes on from here", highlight=False)
            return
        if self._as_json:
            print(summary_json(self._summary).decode())
        else:
            self._console.print(summary_view(self._summary))

    def _begin(self) -> str:
        """Make everything ready that is not a process; a sentence about the state goes out."""
        left = read_run(self._state_dir)
        if left is not None and (names := stop_leftovers(left)):
            self._console.print(f"stopped what a killed supervisor had left: {', '.join(names)}", highlight=False)
        about = prepare_state_dir(
            self._state_dir, self._resolved.identity, fresh=self._fresh, is_replay=self._resolved.replay is not None
        )
        self._prepare()
        return about

    def _prepare(self) -> None:
        nats_dir = self._state_dir / "nats"
        nats_dir.mkdir(parents=True, exist_ok=True)
        environ = child_environment(os.environ)
        broker = nats_spec(nats_dir, environ, strategy=self._resolved.rebalancer.strategy)
        settings, port = with_dashboard_port(self._resolved.settings, self._resolved.dashboard.port)
        stores: list[ProcessSpec] = []
        if self._with_questdb:
            spec, settings = questdb_spec(self._state_dir / "questdb", settings, environ, taken=frozenset({port}))
            stores.append(spec)
        own_venue = settings.stack.mode is Mode.SANDBOX and not access_of(settings).urls
        if own_venue:
            settings = with_sandbox(settings, self._state_dir)
        settings_file = self._state_dir / "settings.json"
        write_settings(settings_file, settings)
        build, url = build_name(), nats_url(broker.port)
        services = service_specs(
            settings.stack.mode,
            state_dir=self._state_dir,
            settings_file=settings_file,
            keys_dir=nats_dir,
            nats_url=url,
            build=build,
            environ=environ,
            live_switch=os.environ.get(LIVE_SWITCH) if settings.stack.mode is Mode.LIVE else None,
            own_venue=own_venue,
        )
        stack, replay = settings.stack, self._resolved.replay
        self._run_file = RunFile(
            supervisor_pid=os.getpid(),
            started_at_ns=wall_ns(),
            build=build,
            schema_hash=schema_hash(),
            mode=stack.mode.value,
            venue=stack.venue,
            timeframe=stack.timeframe,
            state_dir=str(self._state_dir),
            settings_file=str(settings_file),
            nats_url=url,
            keys_dir=str(nats_dir),
            dashboard_url=f"http://127.0.0.1:{port}",
            replay=replay.name if replay is not None else None,
            services=(),
        )
        self._view = self._make_view()
        self._supervisor = Supervisor(
            [broker, *stores, *services],
            logs_dir=self._state_dir / "logs",
            jitter=random.random,
            say=self._view.say,
            on_change=self._note_change,
        )

    async def _supervise(self, about: str) -> Outcome:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._supervisor.request_stop)
        self._view.start()
        self._view.say(about)
        running = asyncio.ensure_future(self._supervisor.run())
        watching = asyncio.ensure_future(self._watch.run(self._run_file.nats_url, Path(self._run_file.keys_dir)))
        watching.add_done_callback(self._check_watch)
        reading = asyncio.ensure_future(self._until_stdin_ends()) if self._stop_with_stdin else None
        try:
            while not running.done():
                self._refresh()
                await asyncio.wait({running}, timeout=REFRESH_S)
            return running.result()
        finally:
            watching.cancel()
            if reading is not None:
                reading.cancel()
            self._refresh()
            self._view.stop()

    def _refresh(self) -> None:
        statuses = self._supervisor.statuses()
        self._view.show(statuses, self._watch.picture)
        if self._is_dirty:
            self._write_run(statuses)

    def _write_run(self, statuses: tuple[ChildStatus, ...]) -> None:
        """Tell other commands what runs; a full disk makes them blind, which is no reason to stop the services."""
        try:
            write_run(msgspec.structs.replace(self._run_file, services=statuses))
        except OSError as error:
            if not self._is_blind:
                self._view.say(f"{self._state_dir / RUN_FILE} cannot be written: {error.strerror}")
            self._is_blind = True
        else:
            self._is_dirty = self._is_blind = False

    def _note_change(self) -> None:
        self._is_dirty = True
        failed = [one.name for one in self._supervisor.statuses() if one.phase is Phase.FAILED]
        stuck = [name for name in failed if name in (*self._participants, "market_data")]
        if stuck and self._resolved.replay is not None:
            # Nobody waits at a replay that can never end.
            self._supervisor.request_stop(Outcome(1, f"the replay cannot go on without {', '.join(stuck)}"))

    def _finish(self, summary: Summary) -> None:
        self._summary = summary
        mark_finished(self._state_dir, summary_json(summary))
        self._supervisor.request_stop(Outcome(0, "finished"))

    def _check_watch(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._supervisor.request_stop(Outcome(1, f"cannot watch the stack: {error!r}"))

    async def _until_stdin_ends(self) -> None:
        await stdin_ends()
        # With an outcome: asked a second time without one, the supervisor kills instead of draining.
        self._supervisor.request_stop(Outcome(0, "standard input ended"))

    def _make_view(self) -> View:
        replay, steps = self._resolved.replay, None
        if not self._resolved.settings.stack.mode.is_wire:
            steps = replay.steps if replay is not None else self._resolved.market_data.steps_max
        title = title_of(self._resolved.settings.stack, None if replay is None else replay.name)
        kind: Callable[..., View] = LiveView if self._console.is_terminal and not self._as_json else PlainView
        return kind(self._console, title=title, dashboard_url=self._run_file.dashboard_url, steps=steps)


def title_of(stack: StackConfig, replay: str | None) -> str:
    """Return what runs, in one line: where prices come from, where orders go, whose money it is."""
    what = {
        Mode.REPLAY: f"replay of {replay}, paper money" if replay is not None else "synthetic market, paper money",
        Mode.SANDBOX: f"{stack.venue} sandbox exchange, made-up market and money",
        Mode.PAPER: f"{stack.venue}, real market, paper money",
        Mode.LIVE: f"{stack.venue}, REAL MONEY",
    }[stack.mode]
    return f"Cascade {stack.mode.value}: {what}, {len(stack.assets)} markets, {stack.timeframe} bars"


def up(
    options: UpOptions, *, fresh: bool, as_json: bool, questdb: bool = False, stop_with_stdin: bool = False
) -> Outcome:
    """Resolve, run and sum up; `questdb` adds a server of the stack's own, which the recorder writes to as well.

    With `stop_with_stdin` the stack stops when standard input, a pipe, ends: it does not outlive who started it.
    Raises ConfigError or InputError before anything has started.
    """
    resolved = resolve(options, os.environ)
    stack, access = resolved.settings.stack, access_of(resolved.settings)
    if stack.mode is Mode.SANDBOX and access.urls:
        # Somebody else's sandbox exchange: what execution would refuse is refused before anything starts.
        trading_wire(stack, access, os.environ)
    run = Stack(resolved, fresh=fresh, as_json=as_json, questdb=questdb, stop_with_stdin=stop_with_stdin)
    outcome = asyncio.run(run.run())
    if not outcome.code:
        run.print_summary()
    return outcome


async def _take(lock: StateLock, state_dir: Path) -> None:
    # Another command may hold the lock for an instant, to see whether somebody else does.
    for _ in range(LOCK_TRIES):
        if lock.acquire():
            return
        await asyncio.sleep(0.1)
    run = read_run(state_dir)
    who = f" (process {run.supervisor_pid}, {run.dashboard_url})" if run is not None else ""
    raise InputError(
        f"a stack already runs in {state_dir}{who}. Stop it with `cascade stop`, or choose another --state-dir"
    )
