"""What an operator may ask of market data, whichever feed it is: where it stands; to trust a frozen market again.

In: `cmd.market_data.status` and `.release`. Out: an answer, always. Never: an act that is not audited first.
"""

from collections.abc import Awaitable, Callable

import msgspec

from services.market_data.guard import NAME
from shared.bus import subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.logs import Log
from shared.messages import Command, CommandAudit, CommandReply, FeedState, Message

NO_COMMAND = CommandReply(ok=False, detail="this subject takes a Command", correlation_id="", result="{}")


class ReleaseArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name the instrument of `cmd.market_data.release`."""

    instrument: str


class FeedReport(msgspec.Struct, frozen=True):
    """Answer `cmd.market_data.status`: where the feed is and what the next step waits for."""

    feed: str
    state: FeedState
    reason: str
    step: int
    close_time_ns: int
    speed: float | str
    paused: bool
    waiting_for: tuple[str, ...]
    frozen: dict[str, str] = {}
    stale: dict[str, str] = {}
    unproven: dict[str, str] = {}


class OperatorDesk:
    """Answer commands; `release` trusts a market again and says whether it was frozen."""

    def __init__(
        self,
        bus: Bus,
        release: Callable[[str], Awaitable[bool]],
        report: Callable[[], FeedReport],
        *,
        log: Log,
        read_wall_ns: Callable[[], int],
    ) -> None:
        self._bus, self._release, self._report = bus, release, report
        self._log, self._wall_ns = log, read_wall_ns

    async def open(self) -> list[Subscription]:
        """Answer from now on."""
        return [
            await self._bus.respond(subjects.command(NAME, "release"), self._on_release),
            await self._bus.respond(subjects.command(NAME, "status"), self._on_status),
        ]

    async def audit(self, subject: str, command: Command) -> None:
        """Record a command before it acts."""
        audit = CommandAudit(service=NAME, command=command, received_at_ns=self._wall_ns())
        message_id = f"{NAME}-{subject}-{command.correlation_id}-{command.sent_at_ns}"
        await self._bus.publish(subjects.audit(NAME), audit, message_id=message_id)

    def reply(self, correlation_id: str, detail: str) -> CommandReply:
        """Return a good answer, with the report."""
        result = msgspec.json.encode(self._report()).decode()
        return CommandReply(ok=True, detail=detail, correlation_id=correlation_id, result=result)

    async def _on_status(self, delivery: Delivery) -> Message:
        command = delivery.message
        correlation_id = command.correlation_id if isinstance(command, Command) else ""
        return self.reply(correlation_id, self._report().reason)

    async def _on_release(self, delivery: Delivery) -> Message:
        command = delivery.message
        if not isinstance(command, Command):
            return NO_COMMAND
        await self.audit(delivery.subject, command)
        try:
            instrument = msgspec.json.decode(command.arguments, type=ReleaseArguments).instrument
        except msgspec.MsgspecError as error:
            detail = f'arguments must be {{"instrument": "BTC-USDT"}}: {error}'
            return CommandReply(ok=False, detail=detail, correlation_id=command.correlation_id, result="{}")
        if not await self._release(instrument):
            frozen = ", ".join(self._report().frozen) or "nothing"
            detail = f"{instrument} is not frozen; {frozen} is"
            return CommandReply(ok=False, detail=detail, correlation_id=command.correlation_id, result="{}")
        self._log.info("released", instrument=instrument, user=command.user, correlation_id=command.correlation_id)
        return self.reply(command.correlation_id, f"{instrument} is released from its next bar on")
