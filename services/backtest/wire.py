"""A rebalancer at a wire: the whole stack as a child process, the same services that `cascade up` starts.

In: an exchange with a key, rules. Out: finished plans to a callable, a result. Never: an order of this process (each
passes risk and the journal there), a stack that outlives this process, a second connection to the account.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.backtest.wire_result import WireRebalance, WireResult, rebalance_of, result_of
from services.backtest.wire_settings import child_environment, state_dir_of, write_settings
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core.told import QUIET_ACTIONS, report_of
from services.risk.config import RiskConfig
from shared.bus import streams, subjects
from shared.bus.port import Bus
from shared.bus.visit import connected
from shared.errors import ConfigError, UnavailableError
from shared.exchange import DualExchange
from shared.messages import AccountSnapshot, DecisionRecord

DECISIONS = "decision.rebalancer.*"
POLL_S = 0.5
LAST_POLL_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 90.0  # as `cascade stop`
KILL_TIMEOUT_S = 20.0
PAGE = 500
REACH = 2_000
PLANS_KEPT_MAX = 1_000
EXIT_REFUSED = 2
OUT_FILE, ERROR_FILE, TOLD_FILE = "program.out", "program.err", "program.told"
_USER = "cli"


class _Run(msgspec.Struct):
    supervisor_pid: int | None
    nats_url: str
    keys_dir: str


class WireRun:
    """Run one stack for one account to its end; `on_rebalance` hears of each finished plan, at least once."""

    def __init__(
        self,
        exchange: DualExchange,
        rules: RebalanceConfig,
        risk: RiskConfig | None,
        state_dir: Path | None,
        on_rebalance: Callable[[WireRebalance], None],
    ) -> None:
        self._exchange, self._rules, self._risk, self._on_rebalance = exchange, rules, risk, on_rebalance
        own_place = state_dir_of(exchange.config)
        self.state_dir = (state_dir or own_place).resolve()
        self._is_stopping = asyncio.Event()
        self._plans: list[WireRebalance] = []
        self._opened: dict[str, DecisionRecord] = {}
        self._first: AccountSnapshot | None = None
        self._last: AccountSnapshot | None = None
        self._next: int | None = None
        self._told = 0

    async def run(self) -> WireResult | None:
        """Start the stack, stay until it ends or `stop`, and stop it; returns the result, None without an account.

        Raises ConfigError for what `cascade up` refuses, UnavailableError when the stack fails or does not stop.
        """
        is_new = not (self.state_dir / "identity.json").exists()
        settings_file = write_settings(self.state_dir, self._exchange.config, self._rules, self._risk)
        # The account has one user from here on: execution. It would also count twice against the venue's limits.
        await self._exchange.wire.close()
        child = await self._spawn(settings_file)
        listening = asyncio.ensure_future(self._listen(child.pid, is_new=is_new))
        stopping = asyncio.ensure_future(self._is_stopping.wait())
        ending = asyncio.ensure_future(child.wait())
        was_asked = True
        try:
            await asyncio.wait({ending, stopping, listening}, return_when=asyncio.FIRST_COMPLETED)
            was_asked = not ending.done()
        finally:
            self._is_stopping.set()
            try:
                await asyncio.wait({listening}, timeout=LAST_POLL_TIMEOUT_S)
            finally:
                listening.cancel()
                stopping.cancel()
                await _end(child)
        if listening.done() and not listening.cancelled() and (error := listening.exception()) is not None:
            raise error
        if child.returncode:
            raise self._failure(child.returncode, was_asked=was_asked)
        return self.result()

    def stop(self) -> None:
        """Stop the stack in good order; `run` returns when it has stopped."""
        self._is_stopping.set()

    def result(self) -> WireResult | None:
        """Return what was heard so far, None before the first account."""
        if self._last is None or self._first is None:
            return None
        mode = self._exchange.config.mode
        return result_of(self._first, self._last, self._plans, mode=mode, state_dir=str(self.state_dir))

    async def _spawn(self, settings_file: Path) -> Process:
        # A session of its own: Ctrl-C reaches this process alone, which then stops the stack once and in good order.
        # The pipe is never written to: it ends when this process does, however that dies.
        with (self.state_dir / OUT_FILE).open("wb") as out, (self.state_dir / ERROR_FILE).open("wb") as err:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "services.cli", "up", "--config", str(settings_file)),
                *("--state-dir", str(self.state_dir), "--stop-with-stdin"),
                stdin=PIPE,
                stdout=out,
                stderr=err,
                env=child_environment(os.environ),
                start_new_session=True,
            )

    def _failure(self, code: int, *, was_asked: bool) -> ConfigError | UnavailableError:
        lines = (self.state_dir / ERROR_FILE).read_text(errors="replace").strip().splitlines() or ["no word of it"]
        said = lines[-1].removeprefix("cascade: ")
        if code == EXIT_REFUSED:
            return ConfigError(said)
        when = "while it stopped" if was_asked else "by itself"
        return UnavailableError(
            f"the stack ended {when} with code {code}: {said}; its logs are in {self.state_dir}/logs"
        )

    async def _listen(self, pid: int, *, is_new: bool) -> None:
        while not self._is_stopping.is_set():
            run = self._running(pid)
            if run is not None:
                with contextlib.suppress(UnavailableError):
                    async with connected(run.nats_url, _USER, Path(run.keys_dir)) as bus:
                        await self._hear(bus, is_new=is_new)
                        return
            await self._pause()

    async def _hear(self, bus: Bus, *, is_new: bool) -> None:
        if self._next is None:
            newest = await bus.last_sequence(streams.DECISIONS)
            self._told = self._read_told(0 if is_new else newest)
            # A plan may have begun before what was told last; then it was opened not far back.
            self._next = max(1, self._told - REACH + 1)
        while True:
            is_last = self._is_stopping.is_set()
            await self._poll(bus, self._next)
            if is_last:
                return
            await self._pause()

    async def _poll(self, bus: Bus, start: int) -> None:
        account = await bus.last(streams.ACCOUNTS, subjects.account(self._exchange.config.venue))
        if account is not None and isinstance(account.message, AccountSnapshot):
            self._last = account.message
            if self._first is None or self._first.equity_usdt is None:
                self._first = self._last
        while True:
            page = await bus.history(streams.DECISIONS, DECISIONS, start_sequence=start, limit=PAGE)
            for delivery in page:
                if isinstance(delivery.message, DecisionRecord):
                    self._take(delivery.message, delivery.stream_sequence)
                start = self._next = delivery.stream_sequence + 1
            if len(page) < PAGE:
                return

    def _take(self, record: DecisionRecord, sequence: int) -> None:
        if record.action in QUIET_ACTIONS:
            return
        opened = self._opened.setdefault(record.correlation_id, record)
        report = report_of(record)
        if report is None:
            return
        del self._opened[record.correlation_id]
        if sequence <= self._told:
            return
        plan = rebalance_of(opened, report)
        self._plans = [*self._plans, plan][-PLANS_KEPT_MAX:]
        self._on_rebalance(plan)
        self._told = sequence
        (self.state_dir / TOLD_FILE).write_text(str(sequence))

    def _read_told(self, otherwise: int) -> int:
        try:
            return int((self.state_dir / TOLD_FILE).read_text())
        except (OSError, ValueError):
            return otherwise

    def _running(self, pid: int) -> _Run | None:
        try:
            run = msgspec.json.decode((self.state_dir / "run.json").read_bytes(), type=_Run)
        except (OSError, msgspec.MsgspecError):
            return None
        # The file may be a killed supervisor's, or that of a stack that others run here.
        return run if run.supervisor_pid == pid else None

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._is_stopping.wait()


async def _end(child: Process) -> None:
    for timeout_s in (STOP_TIMEOUT_S, KILL_TIMEOUT_S):
        if child.returncode is not None:
            return
        # Told a second time, the supervisor kills what does not drain.
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await child.wait()
    if child.returncode is None:
        raise UnavailableError(f"the stack (process {child.pid}) did not stop in {STOP_TIMEOUT_S + KILL_TIMEOUT_S:g} s")
