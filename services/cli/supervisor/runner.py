"""The supervisor: start in order, watch, restart, stop in reverse order.

In: process specs, a policy, a source of jitter. Out: running processes, an outcome when they have stopped.
Never: a stop that waits for ever, a configuration error that is retried, an exit with a child still running.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from services.cli.supervisor import logfiles
from services.cli.supervisor.child import Child, ChildStatus, Guard, ProcessSpec
from services.cli.supervisor.order import Phase, may_start, start_order, stop_order
from services.cli.supervisor.policy import Action, RestartPolicy, on_end
from services.cli.supervisor.probe import SILENT
from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns, wall_ns
from shared.errors import CascadeError
from shared.full_disk import has_no_space

STARTING_POLL_S = 0.05
READY_POLL_S = 1.0
ROTATE_EVERY_S = 10.0

Say = Callable[[str], None]


class Timing(msgspec.Struct, frozen=True):
    """Bound the waits, in seconds: for what a process needs, and for a process that answers nothing."""

    patience_s: float = 30.0
    silence_max_s: float = 60.0


class Outcome(msgspec.Struct, frozen=True):
    """Say with which exit code the stack ended and why, for people."""

    code: int
    message: str


class Supervisor:
    """Run processes until somebody asks for a stop or one of them makes it pointless to go on."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        logs_dir: Path,
        jitter: Callable[[], float],
        policy: RestartPolicy | None = None,
        timing: Timing | None = None,
        say: Say = lambda _: None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._policy = policy or RestartPolicy()
        self._timing = timing or Timing()
        self._jitter, self._say, self._on_change = jitter, say, on_change
        self._after = {spec.name: spec.after for spec in specs}
        by_name = {spec.name: spec for spec in specs}
        self._children = {name: Child(by_name[name], logs_dir) for name in start_order(self._after)}
        self._guard = Guard()
        self._stop, self._hurry, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._outcome = Outcome(0, "stopped")
        self._error: BaseException | None = None

    def statuses(self) -> tuple[ChildStatus, ...]:
        """Return how every process does, in start order."""
        return tuple(child.status() for child in self._children.values())

    def request_stop(self, outcome: Outcome | None = None) -> None:
        """Drain and end with `outcome`; the first outcome counts. Asked again by a person, it kills at once."""
        if self._stop.is_set():
            if outcome is None:
                self._hurry.set()
            return
        self._outcome = outcome or self._outcome
        self._stop.set()

    async def run(self) -> Outcome:
        """Start everything, keep it running, and return when it has stopped."""
        await self._guard.open()
        tasks = [asyncio.ensure_future(self._keep(child)) for child in self._children.values()]
        tasks.append(asyncio.ensure_future(self._rotate_logs()))
        for task in tasks:
            task.add_done_callback(self._watch)
        try:
            await self._stop.wait()
            await self._drain()
            tasks[-1].cancel()
            await asyncio.wait(tasks)
        finally:
            # Whatever went wrong above, no process stays behind.
            for child in self._children.values():
                child.kill()
            await self._guard.close()
        if self._error is not None:
            raise self._error
        return self._outcome

    async def _keep(self, child: Child) -> None:
        if not await self._until_needs(child):
            return
        while not self._stop.is_set():
            code, ran_s = await self._run_once(child)
            if self._stop.is_set():
                break
            child.history, verdict = on_end(
                self._policy,
                child.history,
                code=code,
                ran_s=ran_s,
                now_s=_now_s(),
                jitter=self._jitter(),
                disk_is_full=has_no_space(child.log_path.parent),
            )
            name, lines = child.spec.name, child.last_lines()
            if verdict.action is Action.STOP_STACK:
                self._set(child, Phase.FAILED, verdict.reason)
                message = lines[-1] if lines else f"{name}: {verdict.reason}"
                self.request_stop(Outcome(code, message))
                return
            if verdict.action is Action.GIVE_UP:
                self._give_up(child, verdict.reason, lines)
                return
            child.restarts += 1
            self._set(child, Phase.RESTARTING, verdict.reason)
            tail = f"; last line: {lines[-1]}" if lines else ""
            self._say(f"{name} {verdict.reason}, restart {child.restarts} in {verdict.delay_s:.1f} s{tail}")
            await self._pause(verdict.delay_s)

    async def _run_once(self, child: Child) -> tuple[int, float]:
        self._set(child, Phase.STARTING, "starting")
        child.started_s, child.started_at_ns = _now_s(), wall_ns()
        try:
            process = await child.spawn()
        except OSError as error:
            self._say(f"{child.spec.name} cannot be started: {error}")
            return 127, 0.0
        await self._guard.add(process.pid, last=child.spec.essential)
        watching = asyncio.ensure_future(self._watch_readiness(child))
        watching.add_done_callback(self._watch)
        try:
            if self._stop.is_set():
                await child.stop(self._hurry)
            code = await process.wait()
        finally:
            watching.cancel()
            self._guard.remove(process.pid)
        return code, _now_s() - child.started_s

    async def _watch_readiness(self, child: Child) -> None:
        answered_s = _now_s()
        was_ready = False
        while True:
            port = child.find_port()
            readiness = await child.spec.probe(port) if port is not None else SILENT
            if readiness.answered:
                answered_s = _now_s()
            elif _now_s() - answered_s > self._timing.silence_max_s:
                self._say(f"{child.spec.name} has not answered for {self._timing.silence_max_s:g} s: killing it")
                child.kill()
                return
            if readiness.is_stuck:
                self._say(f"{child.spec.name}: {readiness.detail}: starting it again")
                child.kill()
                return
            if readiness.ready and not was_ready:
                await self._first_ready(child)
            was_ready = was_ready or readiness.ready
            if child.phase is not Phase.STOPPING:
                phase = Phase.READY if readiness.ready else Phase.UNREADY if was_ready else Phase.STARTING
                detail = readiness.detail if readiness.answered or was_ready else "starting"
                self._set(child, phase, detail)
            await asyncio.sleep(READY_POLL_S if readiness.ready else STARTING_POLL_S)

    async def _first_ready(self, child: Child) -> None:
        if child.spec.once_ready is None or child.is_prepared:
            return
        try:
            await child.spec.once_ready()
        except CascadeError as error:
            self.request_stop(Outcome(1, f"{child.spec.name}: {error}"))
            return
        # Not before: a process that died meanwhile leaves it to the next one.
        child.is_prepared = True

    async def _until_needs(self, child: Child) -> bool:
        while not self._stop.is_set():
            phases = {name: other.phase for name, other in self._children.items()}
            starting = {name: _now_s() - other.started_s for name, other in self._children.items() if other.started_s}
            if may_start(child.spec.after, phases, starting_for_s=starting, patience_s=self._timing.patience_s):
                return True
            self._changed.clear()
            stop = asyncio.ensure_future(self._stop.wait())
            change = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({stop, change}, timeout=READY_POLL_S, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            change.cancel()
        return False

    def _give_up(self, child: Child, reason: str, lines: list[str]) -> None:
        self._set(child, Phase.FAILED, reason)
        self._say("\n  ".join([f"{child.spec.name} {reason}. Its last lines ({child.log_path}):", *lines]))
        if child.spec.essential:
            self.request_stop(Outcome(1, f"nothing works without {child.spec.name}: {reason}"))

    async def _drain(self) -> None:
        for name in stop_order(self._after):
            child = self._children[name]
            if child.is_running:
                self._set(child, Phase.STOPPING, "draining")
                if not await child.stop(self._hurry):
                    self._say(f"{name} did not stop within {child.spec.stop_timeout_s:g} s: killed")
            if child.phase is not Phase.FAILED:
                self._set(child, Phase.STOPPED, "stopped")

    async def _rotate_logs(self) -> None:
        while True:
            for child in self._children.values():
                # A full disk: the log stays as it is, and the stack runs on.
                with contextlib.suppress(OSError):
                    logfiles.rotate(child.log_path)
            await asyncio.sleep(ROTATE_EVERY_S)

    async def _pause(self, delay_s: float) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stop}, timeout=delay_s)
        stop.cancel()

    def _set(self, child: Child, phase: Phase, detail: str) -> None:
        if (child.phase, child.detail) != (phase, detail):
            child.phase, child.detail = phase, detail
            self._changed.set()
            self._on_change()

    def _watch(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self.request_stop(Outcome(1, repr(error)))


def _now_s() -> float:
    return monotonic_ns() / NANOSECONDS_PER_SECOND
