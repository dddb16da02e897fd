"""One verdict: wait for the data that it needs, judge, keep it.

In: an intent and the subject that it came on. Out: the message that answers it, already in the store.
Never: a verdict on an account that lags behind the order events before the intent, a wall clock in a decision of the
sandbox, an intent that nothing can ever answer and that blocks those behind it.
"""

import asyncio
import hashlib

from services.risk.core.checks import Approval
from services.risk.core.checks_order import CLOCK_SKEW_MAX_NS, is_intent_id
from services.risk.core.explain import record_of
from services.risk.core.gate import Verdict
from services.risk.core.refusal import Refusal, refuse
from services.risk.memory import GateMemory
from services.risk.recovery import last_readable
from services.risk.store import StoredVerdict
from services.risk.surroundings import Setting, Surroundings
from services.risk.telemetry import Telemetry
from services.risk.trading import TradingSwitch
from shared.bus import subjects
from shared.bus.port import Delivery
from shared.bus.streams import ACCOUNTS, MD_BARS
from shared.errors import DeferError
from shared.messages import AccountSnapshot, BarsClosed, OrderIntent, OrderRefused, RefusalCode

# A refusal for one of these may rest on a snapshot that is not the newest: it is fetched before anybody is refused.
ACCOUNT_CODES = frozenset(
    {
        RefusalCode.BALANCE,
        RefusalCode.BALANCE_UNKNOWN,
        RefusalCode.RESERVE_FLOOR,
        RefusalCode.POSITION_LIMIT,
        RefusalCode.TRADING_REDUCING,
    }
)
DETAIL_LENGTH_MAX = 4_096
WAIT_S = 1.0


class Judging:
    """Answer intents."""

    def __init__(
        self, around: Surroundings, setting: Setting, memory: GateMemory, switch: TradingSwitch, telemetry: Telemetry
    ) -> None:
        self._around, self._setting, self._memory = around, setting, memory
        self._switch, self._telemetry = switch, telemetry
        self._bus, self._gate = around.bus, memory.gate
        self._moved = asyncio.Event()

    def look_again(self) -> None:
        """Say that market time or the account has moved, which an intent may be waiting for."""
        self._moved.set()

    async def decide(self, intent: OrderIntent, delivery: Delivery, key: str) -> StoredVerdict:
        """Return the verdict on an intent, kept under `key`; raises DeferError while its data has not come."""
        strategy = delivery.subject.split(".")[2]
        verdict = await self._verdict(intent, delivery.subject)
        # From here to the end of `save` nothing is awaited: what was judged by is what is kept.
        result = verdict.result
        if isinstance(result, Approval):
            stored = StoredVerdict(result.message, None)
        else:
            refused = OrderRefused(
                intent_id=intent.intent_id,
                strategy=strategy,
                venue=self._setting.venue,
                instrument=intent.instrument[:DETAIL_LENGTH_MAX],
                correlation_id=intent.correlation_id[:DETAIL_LENGTH_MAX],
                code=result.code,
                detail=result.detail[:DETAIL_LENGTH_MAX],
                refused_at_ns=verdict.view.now_ns,
            )
            record = record_of(intent, strategy, verdict.view, self._gate.limits, result)
            stored = StoredVerdict(refused, record)
        self._memory.save(key, verdict, stored, delivery.stream_sequence)
        self._telemetry.verdict(result)
        return stored

    async def _verdict(self, intent: OrderIntent, subject: str) -> Verdict:
        if not _is_subject_of(intent, subject):
            view = self._gate.view(intent.instrument, self._switch.in_force, self._around.clock.now_ns())
            return Verdict(view, refuse(RefusalCode.INTENT_MALFORMED, f"published on {subject}, which is not its own"))
        while True:
            self._moved.clear()
            if await self._is_ahead(intent):
                await self._until_moved(intent, "the market time that it was decided at")
                continue
            verdict = self._judge(intent)
            if verdict is None or (isinstance(verdict.result, Refusal) and verdict.result.code in ACCOUNT_CODES):
                # What the strategy has seen was stored before it published the intent, so this is at least as new.
                await self._fetch_account()
                verdict = self._judge(intent)
            if verdict is not None:
                return verdict
            await self._until_moved(intent, "an account snapshot with everything that order events told so far")

    def _judge(self, intent: OrderIntent) -> Verdict | None:
        return self._gate.judge(intent, self._switch.in_force, self._around.clock.now_ns())

    async def _is_ahead(self, intent: OrderIntent) -> bool:
        """Tell whether the intent was decided at a market time that exists and has not come here yet."""
        now_ns = self._around.clock.now_ns()
        if intent.decided_at_ns <= now_ns:
            return False
        if not self._setting.is_market_time:
            return intent.decided_at_ns <= now_ns + CLOCK_SKEW_MAX_NS
        # Whoever decides on a step has seen its end in the stream. A later time than the stream's is a mistake,
        # which the checks refuse; waiting for it would block everything behind it.
        last = await last_readable(
            self._bus, MD_BARS, subjects.bars_closed(self._setting.timeframe, self._setting.venue)
        )
        newest_ns = last.message.close_time_ns if last and isinstance(last.message, BarsClosed) else 0
        return self._around.clock.now_ns() < intent.decided_at_ns <= newest_ns

    async def _until_moved(self, intent: OrderIntent, waiting_for: str) -> None:
        # The time-out decides nothing: the intent is delivered again, and waits again.
        self._telemetry.waits(intent.intent_id, waiting_for)
        try:
            async with asyncio.timeout(WAIT_S):
                await self._moved.wait()
        except TimeoutError:
            raise DeferError(f"waits for {waiting_for}") from None

    async def _fetch_account(self) -> None:
        last = await last_readable(self._bus, ACCOUNTS, subjects.account(self._setting.venue))
        if last is not None and isinstance(last.message, AccountSnapshot):
            self._memory.on_snapshot(last.message)


def verdict_key(intent: OrderIntent, subject: str) -> str:
    """Return the id under which the verdict is kept and published: the intent's own, where that can be one.

    An intent that came on a subject of somebody else's cannot take the verdict of the one whose id it carries.
    """
    if is_intent_id(intent.intent_id) and _is_subject_of(intent, subject):
        return intent.intent_id
    return f"foreign-{hashlib.sha256(f'{subject} {intent.intent_id}'.encode()).hexdigest()}"


def _is_subject_of(intent: OrderIntent, subject: str) -> bool:
    return subject == f"ord.intent.{intent.strategy}.{intent.venue}.{intent.instrument}"
