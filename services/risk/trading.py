"""The trading state in force: restored, changed, kept and announced.

In: demands. Out: `risk.state`, durably, at every change and at every start. Never: a state announced before it is
kept, a looser one than the last after a crash, a guess when it cannot be read: that is HALTED.
"""

import asyncio
import hashlib
from collections import deque

import msgspec

from services.risk.core.state import Demand, change, first_state, unreadable_state
from services.risk.store import RiskStore
from shared.bus import subjects
from shared.bus.port import Bus
from shared.bus.streams import RISK
from shared.clock import wall_ns
from shared.errors import DecodeError, UnavailableError
from shared.logs import Log
from shared.messages import RiskHalt, RiskState, TradingState, decode, encode

READ_TRIES = 3
RETRY_S, RETRY_MAX_S = 0.1, 5.0
WAITING_MAX = 100


class TradingSwitch:
    """Hold the trading state."""

    def __init__(self, bus: Bus, store: RiskStore, log: Log) -> None:
        self._bus, self._store, self._log = bus, store, log
        self.state = unreadable_state("not restored yet", at_ns=0)
        self._revision = 0
        self._waiting: deque[tuple[int, RiskState]] = deque(maxlen=WAITING_MAX)
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def in_force(self) -> TradingState:
        """Return what may be sent."""
        return self.state.state

    async def restore(self, *, start_active: bool, damage: str | None) -> None:
        """Find the state of before; `damage` says why the database of before cannot be read, if so."""
        kept, revision = self._store.fact("trading", "state"), self._store.fact("trading", "revision")
        self._revision = int(revision or b"0")
        if damage is not None:
            self._set(unreadable_state(damage, at_ns=wall_ns()))
        elif kept is None:
            self._set(await self._from_stream(start_active=start_active))
        else:
            self._keep(_read(kept) or unreadable_state("the database holds something else", at_ns=wall_ns()))
            self._announce_later()
        self._log.info("trading_state", state=self.state.state, by=self.state.changed_by, reason=self.state.reason)

    def demand(self, demand: Demand) -> str | None:
        """Change the state, in force and kept on return; returns the sentence that refuses it, or None."""
        after = change(self.state, demand)
        if isinstance(after, str):
            return after
        if after is not self.state:
            self._set(after)
            self._log.warning("trading_state_changed", state=after.state, by=after.changed_by, reason=after.reason)
        return None

    def obey(self, halt: RiskHalt | None) -> None:
        """Halt as demanded; a delivery of the same demand again, after a resume, changes nothing."""
        mark = hashlib.sha256(encode(halt) if halt is not None else b"").digest()
        if halt is not None and self._store.fact("trading", "halt") == mark:
            return
        by, reason, correlation_id = ("unknown", "a halt that cannot be read", "")
        if halt is not None:
            by, reason, correlation_id = halt.demanded_by, halt.reason, halt.correlation_id
        self.demand(
            Demand(TradingState.HALTED, by, reason, correlation_id, at_ns=wall_ns(), by_operator=False),
        )
        self._store.put("trading", "halt", mark)

    async def announce(self) -> None:
        """Publish what is waiting, in order; raises UnavailableError, then it waits on."""
        async with self._turn:
            while self._waiting:
                revision, state = self._waiting[0]
                digest = hashlib.sha256(encode(state)).hexdigest()[:16]
                await self._bus.publish(subjects.RISK_STATE, state, message_id=f"risk-state-{revision}-{digest}")
                if self._waiting and self._waiting[0][0] == revision:
                    self._waiting.popleft()

    async def announce_forever(self) -> None:
        """Publish changes that could not be published at once, until they are."""
        delay_s = RETRY_S
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.announce()
                delay_s = RETRY_S
            except UnavailableError as error:
                self._log.warning("trading_state_not_announced", error=str(error))
                self._changed.set()
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    def _set(self, state: RiskState) -> None:
        self._revision += 1
        self._keep(state)
        self._announce_later()

    def _keep(self, state: RiskState) -> None:
        with self._store.transaction():
            self._store.put("trading", "state", encode(state))
            self._store.put("trading", "revision", str(self._revision).encode())
        self.state = state

    def _announce_later(self) -> None:
        self._waiting.append((self._revision, self.state))
        self._changed.set()

    async def _from_stream(self, *, start_active: bool) -> RiskState:
        problem = ""
        for attempt in range(READ_TRIES):
            if attempt:
                await asyncio.sleep(RETRY_S * 2**attempt)
            try:
                last = await self._bus.last(RISK, subjects.RISK_STATE)
            except (UnavailableError, DecodeError) as error:
                problem = str(error)
                continue
            if last is None:
                return first_state(start_active=start_active, at_ns=wall_ns())
            if isinstance(last.message, RiskState):
                return last.message
            problem = "the stream holds something else"
        return unreadable_state(problem, at_ns=wall_ns())


def _read(value: bytes) -> RiskState | None:
    try:
        state = decode(value)
    except (DecodeError, msgspec.MsgspecError):
        return None
    return state if isinstance(state, RiskState) else None
