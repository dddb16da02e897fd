"""Let no untrusted bar out: screen each step, keep what is frozen over any crash, say it, release it when told to.

In: steps of the feed, operators' releases. Out: steps that may be published, a `MarketStatus` for each instrument that
is or was frozen, counters. Never: a frozen instrument that a restart forgets, a step that is judged twice.

A freeze is kept in the bucket before the step without the bar is published. The other half of the state, the last good
price, is the newest bar in the stream; so a process killed at any point judges the next step as it would have.
"""

import asyncio
from collections.abc import Container

import msgspec

from services.market_data.core.feed import MarketStep
from services.market_data.core.quality import QualityState, release
from services.market_data.core.quality_steps import resumed, screen
from services.market_data.core.quality_words import Finding, Limits
from shared.bus import subjects
from shared.bus.port import Bus
from shared.bus.streams import STATE_BUCKET
from shared.logs import Log
from shared.messages import RELEASED, Bar, FeedState, MarketStatus
from shared.metrics import Metrics

NAME = "market_data"


class Kept(msgspec.Struct, frozen=True):
    """Hold what a restart must know: why an instrument is frozen; after which bar's close one was released."""

    frozen: dict[str, str] = {}
    released: dict[str, int] = {}


class QualityGuard:
    """Guard one venue's bars."""

    def __init__(self, bus: Bus, venue: str, limits: Limits, *, metrics: Metrics, log: Log) -> None:
        self._bus, self._venue, self._limits, self._log = bus, venue, limits, log
        self._states: dict[str, QualityState] = {}
        self._frozen: dict[str, str] = {}
        self._released: dict[str, int] = {}
        self._judged: MarketStep | None = None
        self._is_kept = True
        self._writing = asyncio.Lock()
        findings = metrics.counter("quality_findings", "What was wrong with market data, by kind", ["kind"])
        self._findings = {finding: findings.labels(finding.value) for finding in Finding}
        self._withheld = metrics.counter("bars_withheld", "Bars of the feed that were not published")
        self._frozen_count = metrics.gauge("frozen_instruments", "Instruments that wait for an operator's release")

    @property
    def frozen(self) -> dict[str, str]:
        """Return the frozen instruments and why."""
        return dict(self._frozen)

    @property
    def states(self) -> dict[str, QualityState]:
        """Return each instrument's state after the bars judged so far."""
        return dict(self._states)

    async def load(self, newest: dict[str, Bar | None]) -> None:
        """Go on from the newest published bars and from what was frozen."""
        entry = await (await self._bus.key_value(STATE_BUCKET)).get(self._key)
        kept = Kept() if entry is None else msgspec.json.decode(entry.value, type=Kept)
        self._frozen, self._released = dict(kept.frozen), dict(kept.released)
        self._states = {
            name: resumed(bar, self._frozen.get(name), self._released.get(name)) for name, bar in newest.items()
        }
        self._frozen_count.set(len(self._frozen))

    async def screen(self, step: MarketStep) -> MarketStep:
        """Return the step with its unusable bars moved to `missing`; call again with the same step after a failure.

        Raises BusUnavailableError when it is unknown whether a freeze was kept; the step must not be published then.
        """
        if self._judged is None or self._judged.number != step.number:
            self._judged = self._judge(step)
        if not self._is_kept:
            await self._keep()
            self.send_status(step.close_time_ns)
        return self._judged

    def freeze(self, instrument: str, reason: str) -> None:
        """Publish no bar of the instrument any more, since its ticks jumped; kept before the next step goes out."""
        if instrument in self._frozen:
            return
        self._frozen[instrument] = reason
        state = self._states.get(instrument, QualityState())
        self._states[instrument] = msgspec.structs.replace(state, frozen=reason)
        self._is_kept = False
        self._frozen_count.set(len(self._frozen))
        self._log.error("instrument_frozen", instrument=instrument, reason=reason)

    async def release(self, instrument: str) -> bool:
        """Trust an instrument again, from its next bar on, whatever its price; False when it is not frozen."""
        async with self._writing:
            if instrument not in self._frozen:
                return False
            state = self._states.get(instrument, QualityState())
            frozen = {name: why for name, why in self._frozen.items() if name != instrument}
            released = self._released | {instrument: state.bar.event_ns}
            await self._write(Kept(frozen, released))
            del self._frozen[instrument]
            self._released = released
        self._states[instrument] = release(state)
        self._frozen_count.set(len(self._frozen))
        return True

    def send_status(self, at_ns: int, *, untrusted: Container[str] = ()) -> None:
        """Say which instruments are frozen, and which ones were and are live again.

        `untrusted` are not live for another reason, which is said elsewhere.
        """
        for instrument, reason in self._frozen.items():
            self._send(instrument, FeedState.FROZEN, reason, at_ns)
        for instrument in self._released.keys() - self._frozen.keys():
            if instrument not in untrusted:
                self._send(instrument, FeedState.LIVE, RELEASED, at_ns)

    def _judge(self, step: MarketStep) -> MarketStep:
        screened = screen(self._states, step, self._limits)
        self._states = dict(screened.states)
        for instrument, verdict in screened.verdicts.items():
            for finding in verdict.findings:
                self._findings[finding].inc()
            if verdict.is_usable:
                continue
            self._withheld.inc()
            reason = self._states[instrument].frozen
            if reason is None:
                findings = [finding.value for finding in verdict.findings]
                self._log.warning("bar_dropped", instrument=instrument, step=step.number, findings=findings)
            elif instrument not in self._frozen:
                self._frozen[instrument] = reason
                self._is_kept = False
                self._log.error("instrument_frozen", instrument=instrument, step=step.number, reason=reason)
        self._frozen_count.set(len(self._frozen))
        return screened.step

    async def _keep(self) -> None:
        async with self._writing:
            await self._write(Kept(self._frozen, self._released))
        self._is_kept = True

    async def _write(self, kept: Kept) -> None:
        await (await self._bus.key_value(STATE_BUCKET)).put(self._key, msgspec.json.encode(kept))

    def _send(self, instrument: str, state: FeedState, reason: str, at_ns: int) -> None:
        status = MarketStatus(self._venue, instrument, state, reason, at_ns)
        self._bus.publish_lossy(subjects.status(self._venue), status)

    @property
    def _key(self) -> str:
        return f"{NAME}.{self._venue}.quality"
