"""What an operator may ask of the rebalancer: status, rebalance now, pause, resume.

In: `cmd.rebalancer.<verb>`. Out: an answer, always. Never: an act that is not audited durably first, a rebalance while
trading is not ACTIVE or a plan is under way, a second one for the same correlation id.
"""

from collections.abc import Awaitable, Callable

import msgspec

from services.rebalancer.core import (
    Decision,
    MachineEvent,
    PauseRequested,
    RebalanceRequested,
    RebalancerState,
    Status,
)
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.bus.streams import RISK
from shared.clock import wall_ns
from shared.errors import UnavailableError
from shared.messages import Command, CommandAudit, CommandReply, Message, RiskState, TradingState

NAME = "rebalancer"
VERBS = ("status", "rebalance", "pause", "resume")


class CommandDesk:
    """Answer the operator; `handle` is the service's one way to change its state."""

    def __init__(
        self,
        bus: Bus,
        handle: Callable[[MachineEvent], Awaitable[Decision]],
        state: Callable[[], RebalancerState],
        status: Callable[[str | None], Status],
    ) -> None:
        self._bus, self._handle, self._state, self._status = bus, handle, state, status

    async def open(self) -> list[Subscription]:
        """Begin to answer."""
        return [await self._bus.respond(subjects.command(NAME, verb), self.answer) for verb in VERBS]

    async def answer(self, delivery: Delivery) -> Message:
        """Audit the command if it acts, carry it out, and say what came of it."""
        command = delivery.message
        if not isinstance(command, Command) or delivery.subject != subjects.command(NAME, command.verb):
            return CommandReply(
                ok=False, detail="this is no command for the rebalancer", correlation_id="", result="{}"
            )
        if command.verb == "status":
            return await self._on_status(command)
        if not command.reason.strip() or not command.user.strip() or not command.correlation_id.strip():
            return self._reply(command, ok=False, detail="refused: a command needs user, reason and correlation id")
        try:
            await self._audit(command)
        except UnavailableError as error:
            return self._reply(command, ok=False, detail=f"refused: it cannot be audited now ({error})")
        if command.verb == "rebalance":
            return await self._on_rebalance(command)
        paused = command.verb == "pause"
        decision = await self._handle(PauseRequested(command.correlation_id, command.user, command.reason, paused))
        return self._reply(command, ok=True, detail="; ".join(decision.notes))

    async def _on_rebalance(self, command: Command) -> CommandReply:
        if command.correlation_id not in self._state().requests_seen:
            trading = await self._trading()
            if trading is not TradingState.ACTIVE:
                state = "not known: risk has not reported it" if trading is None else trading.value.upper()
                return self._reply(command, ok=False, detail=f"refused: trading is {state}; see cascade resume")
        decision = await self._handle(RebalanceRequested(command.correlation_id, command.user, command.reason))
        if decision.refusal:
            return self._reply(command, ok=False, detail=f"refused: {decision.refusal}")
        return self._reply(command, ok=True, detail="; ".join(decision.notes))

    async def _on_status(self, command: Command) -> CommandReply:
        trading = await self._trading()
        status = self._status(None if trading is None else trading.value)
        return self._reply(command, ok=True, detail=_sentence(status), result=msgspec.json.encode(status).decode())

    async def _trading(self) -> TradingState | None:
        last = await self._bus.last(RISK, subjects.RISK_STATE)
        return last.message.state if last is not None and isinstance(last.message, RiskState) else None

    async def _audit(self, command: Command) -> None:
        audit = CommandAudit(service=NAME, command=command, received_at_ns=wall_ns())
        message_id = f"{NAME}-{command.verb}-{command.correlation_id}-{command.sent_at_ns}"
        await self._bus.publish(subjects.audit(NAME), audit, message_id=message_id)

    def _reply(self, command: Command, *, ok: bool, detail: str, result: str = "{}") -> CommandReply:
        return CommandReply(ok=ok, detail=detail, correlation_id=command.correlation_id, result=result)


def _sentence(status: Status) -> str:
    config = status.params.config
    words = [f"trigger {config.trigger}, target {config.target_mode}"]
    if status.paused is not None:
        words.append(f"paused by {status.paused.user}: {status.paused.reason}")
    if status.plan:
        words.append(f"plan {status.plan} is {status.plan_stage}")
    if status.request is not None:
        words.append(f"a rebalance asked by {status.request.user} waits for the next closed bars")
    if status.warmup_left_bars:
        words.append(f"warming up: {status.warmup_left_bars} bars are left")
    return "; ".join(words)
