"""The dashboard's ear: everything heard on the bus goes into the board; commands go out and come back answered.

In: live messages, and the recent past from the streams at start. Out: the board, woken listeners, `cmd.*` requests.
Never: an order, a blocking wait in front of trading, a command without a user and a reason.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

from services.dashboard.config import DashboardConfig
from services.dashboard.core.board import Board
from services.dashboard.venue_watch import NAME, VenueWatch
from shared.bus import streams, subjects
from shared.bus.port import Bus, Delivery, Subscription
from shared.clock import wall_ns
from shared.errors import BusUnavailableError
from shared.messages import AnyMessage, Command, CommandReply

LIVE = ("acct.>", "decision.>", "ord.event.>", "ord.refused.>", "hb.>", "risk.state", "md.closed.>", "md.bar.>")
QUOTES = ("md.bbo.>", "md.trade.>")
PAST = ((streams.ACCOUNTS, "acct.>"), (streams.DECISIONS, "decision.>"), (streams.ORDERS, "ord.event.>"))
PAGE = 1_000
FIRST = 10
EARLY_MAX = 100_000


class Web(Protocol):
    """Be the server that shows the board."""

    async def start(self) -> None:
        """Bind and serve."""
        ...

    async def stop(self) -> None:
        """Stop serving."""
        ...


class DashboardService:
    """Keep the board up to date and carry the operator's commands."""

    def __init__(
        self,
        bus: Bus,
        config: DashboardConfig,
        *,
        venue: str,
        web: Callable[["DashboardService"], Web],
        markets: tuple[str, ...] = (),
        has_quotes: bool = False,
        watch: VenueWatch | None = None,
    ) -> None:
        self.board = Board(
            venue=venue,
            equity_points_max=config.equity_points_max,
            decisions_max=config.decisions_max,
            markets=markets,
            also=() if watch is None else (NAME,),
        )
        self._watch = watch
        self._bus = bus
        self._recall_max = config.recall_max
        # A replay as fast as it can has no quotes worth following.
        self._live = (*LIVE, subjects.status(venue), *(QUOTES if has_quotes else ()))
        self._web = web(self)
        self._subscriptions: list[Subscription] = []
        self._early: deque[AnyMessage] | None = deque(maxlen=EARLY_MAX)

    async def start(self) -> None:
        """Read the recent past, listen from now on, and open the page."""
        for subject in self._live:
            self._subscriptions.append(await self._bus.subscribe(subject, self._hear))
        for stream, subject in PAST:
            await self._recall(stream, subject)
        state = await self._bus.last(streams.RISK, subjects.RISK_STATE)
        if state is not None:
            self.board.apply(state.message)
        # What came meanwhile is newer than the past, so it has to be told after it.
        early, self._early = self._early or (), None
        for message in early:
            self.board.apply(message)
        if self._watch is not None:
            self._watch.start(self.hear)
        await self._web.start()

    async def drain(self) -> None:
        """Close the page and stop listening."""
        await self._web.stop()
        if self._watch is not None:
            await self._watch.stop()
        for subscription in self._subscriptions:
            await subscription.stop()

    def hear(self, message: AnyMessage) -> None:
        """Fold one message in, or keep it until the past has been told."""
        if self._early is None:
            self.board.apply(message)
        else:
            self._early.append(message)

    async def command(self, service: str, verb: str, *, user: str, reason: str) -> CommandReply:
        """Ask a service to act; an answer that did not come is said to be unknown, never taken for a yes."""
        command = Command(
            verb=verb, user=user, reason=reason, correlation_id=uuid4().hex, arguments="{}", sent_at_ns=wall_ns()
        )
        try:
            reply = await self._bus.request(subjects.command(service, verb), command, timeout_s=3.0)
        except BusUnavailableError as error:
            detail = f"{service} did not answer: {error}. Nobody knows whether it acted; look at the trading state."
            return CommandReply(ok=False, detail=detail, correlation_id=command.correlation_id, result="{}")
        if isinstance(reply, CommandReply):
            return reply
        detail = f"{service} answered with {type(reply).__name__}"
        return CommandReply(ok=False, detail=detail, correlation_id=command.correlation_id, result="{}")

    async def _hear(self, delivery: Delivery) -> None:
        self.hear(delivery.message)

    async def _recall(self, stream: str, subject: str) -> None:
        """Tell the board the newest part, and of the accounts the first one, which is where the return is from."""
        start = max(1, await self._bus.last_sequence(stream) - self._recall_max + 1)
        if stream == streams.ACCOUNTS and start > 1:
            for delivery in await self._bus.history(stream, subject, limit=FIRST):
                self.board.apply(delivery.message)
        while True:
            page = await self._bus.history(stream, subject, start_sequence=start, limit=PAGE)
            for delivery in page:
                self.board.apply(delivery.message)
            if len(page) < PAGE:
                return
            start = page[-1].stream_sequence + 1
