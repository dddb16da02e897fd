"""The operator's desk: halt, resume, reduce and status, each answered, all but status audited before they act.

A halt and a tightening act even when the audit cannot be written now: stopping must not depend on the bus.
"""

import hashlib
from collections.abc import Callable

import msgspec

from services.risk.core.state import Demand
from services.risk.peers import Peers
from services.risk.telemetry import Telemetry
from services.risk.trading import TradingSwitch
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Responder, Subscription
from shared.clock import wall_ns
from shared.errors import UnavailableError
from shared.messages import Command, CommandAudit, CommandReply, Message, TradingState, encode, schema_hash

NAME = "risk"
TARGETS = {"halt": TradingState.HALTED, "reduce": TradingState.REDUCING, "resume": TradingState.ACTIVE}


class RiskReport(msgspec.Struct, frozen=True):
    """Answer `cmd.risk.status`: what may be sent, who said so, what is frozen and why, what was done so far."""

    state: TradingState
    changed_by: str
    reason: str
    changed_at_ns: int
    market_time_ns: int
    open_orders: int
    ledger_sequence: int | None
    waiting_for: str
    verdicts: dict[str, int]
    frozen: dict[str, str]


class OperatorDesk:
    """Answer the operator's commands. `peers` are given where real money is at stake: all must speak one schema."""

    def __init__(
        self,
        bus: Bus,
        switch: TradingSwitch,
        telemetry: Telemetry,
        report: Callable[[], RiskReport],
        peers: Peers | None = None,
    ) -> None:
        self._bus, self._switch, self._telemetry, self._report, self._peers = bus, switch, telemetry, report, peers

    async def open(self) -> list[Subscription]:
        """Begin to answer."""
        opened = [
            await self._bus.respond(subjects.command(NAME, verb), self._responder(target))
            for verb, target in TARGETS.items()
        ]
        opened.append(await self._bus.respond(subjects.command(NAME, "status"), self._on_status))
        return opened

    def _responder(self, target: TradingState) -> Responder:
        async def respond(delivery: Delivery) -> Message:
            if not isinstance(delivery.message, Command):
                return CommandReply(ok=False, detail="this subject takes a Command", correlation_id="", result="{}")
            return await self._change(target, delivery.message)

        return respond

    async def _change(self, target: TradingState, command: Command) -> CommandReply:
        remarks = []
        try:
            await self._audit(command)
        except UnavailableError as error:
            if self._loosens(target):
                return self._reply(command, ok=False, detail=f"refused: it cannot be audited now ({error})")
            remarks.append("the audit could not be written")
        if mixed := await self._mixed_schemas(target):
            return self._reply(command, ok=False, detail=mixed)
        demand = Demand(target, command.user, command.reason, command.correlation_id, wall_ns(), by_operator=True)
        refused = self._switch.demand(demand)
        self._telemetry.trading_state(self._switch.in_force)
        if refused is not None:
            return self._reply(command, ok=False, detail=refused)
        try:
            await self._switch.announce()
        except UnavailableError:
            remarks.append("it could not be announced yet")
        state = self._switch.state
        detail = f"{state.state} since {state.changed_by} said: {state.reason}"
        return self._reply(command, ok=True, detail="; ".join([detail, *remarks]))

    def _loosens(self, target: TradingState) -> bool:
        is_halted = self._switch.in_force is TradingState.HALTED
        return target is TradingState.ACTIVE or (is_halted and target is TradingState.REDUCING)

    async def _mixed_schemas(self, target: TradingState) -> str:
        """Return why real money must not be traded on: services that do not understand each other; empty otherwise."""
        if self._peers is None or not self._loosens(target):
            return ""
        await self._peers.until_heard()
        strangers = self._peers.strangers()
        if not strangers:
            return ""
        return (
            f"refused: another schema than risk's {schema_hash()} speak {strangers}. "
            "Start all services from one build, then resume"
        )

    async def _on_status(self, delivery: Delivery) -> Message:
        command = delivery.message
        if not isinstance(command, Command):
            return CommandReply(ok=False, detail="this subject takes a Command", correlation_id="", result="{}")
        return self._reply(command, ok=True, detail=f"{self._switch.in_force}: {self._switch.state.reason}")

    async def _audit(self, command: Command) -> None:
        audit = CommandAudit(service=NAME, command=command, received_at_ns=wall_ns())
        digest = hashlib.sha256(encode(command)).hexdigest()[:32]
        await self._bus.publish(subjects.audit(NAME), audit, message_id=f"audit-{NAME}-{digest}")

    def _reply(self, command: Command, *, ok: bool, detail: str) -> CommandReply:
        result = msgspec.json.encode(self._report()).decode()
        return CommandReply(ok=ok, detail=detail, correlation_id=command.correlation_id, result=result)
