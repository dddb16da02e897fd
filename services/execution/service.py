"""The execution service: recover, then take approvals, market steps, trading states and commands, one at a time.

In and out as the package says. Never: an approval taken before the account was reconciled with the venue.
"""

import asyncio
from collections.abc import Callable

from services.execution.cancels import Cancels
from services.execution.commands import Commands
from services.execution.desk import Desk
from services.execution.market_input import MarketInput
from services.execution.recovery import HALTED, Recovery
from services.execution.submission import Submission
from shared.bus import subjects
from shared.bus.port import Delivery, Subscription
from shared.bus.streams import MD_BARS, ORDERS, RISK
from shared.errors import UnavailableError
from shared.messages import TradingState

DURABLE_ORDERS = "execution"
DURABLE_MARKET = "execution-market"
DURABLE_RISK = "execution-risk"


class ExecutionService:
    """Run one account's execution over a desk; `shared.lifecycle` starts and drains it.

    `closers` are called last at a clean stop.
    """

    def __init__(self, desk: Desk, *, timeframe: str, closers: tuple[Callable[[], None], ...] = ()) -> None:
        self._desk = desk
        self._closers = closers
        self._timeframe = timeframe
        self._cancels = Cancels(desk)
        self._submission = Submission(desk)
        self._recovery = Recovery(desk, self._submission, self._cancels)
        self._market = MarketInput(desk, self._recovery)
        self._commands = Commands(desk, self._recovery, self._cancels)
        self._subscriptions: list[Subscription] = []
        self._passes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Recover, publish what was not, and take work. Startup is recovery: there is no other way in."""
        desk = self._desk
        desk.host.advance_clock(desk.books.seen_ns)
        await desk.refresh_state()
        await self._reconcile(repeat_snapshot=True)
        if desk.books.closed_ns:
            desk.host.report_progress(desk.books.closed_ns)
        venue = desk.venue.venue
        self._subscriptions = await self._commands.start()
        self._subscriptions += [
            await desk.bus.consume(
                RISK, DURABLE_RISK, self._on_risk, filters=(subjects.RISK_STATE, subjects.RISK_HALT)
            ),
            await desk.bus.consume(
                MD_BARS,
                DURABLE_MARKET,
                self._market.on_market,
                filters=(
                    subjects.instrument(venue, "X").removesuffix("X") + ">",
                    subjects.bar(self._timeframe, venue, "X").removesuffix("X") + ">",
                    subjects.bars_closed(self._timeframe, venue),
                ),
            ),
            await desk.bus.consume(
                ORDERS,
                DURABLE_ORDERS,
                self._submission.on_approved,
                filters=(subjects.order_approved(venue, "X").removesuffix("X") + ">",),
            ),
        ]
        self._passes = desk.host.spawn(self._reconcile_forever(), "reconcile")

    async def drain(self) -> None:
        """Finish what was begun, publish it, and close the journal."""
        desk = self._desk
        if self._passes is not None:
            self._passes.cancel()
        for subscription in self._subscriptions:
            await subscription.stop()
        try:
            async with desk.turn:
                if desk.config.cancel_on_stop:
                    await self._cancels.cancel_all("execution stops")
                await desk.publisher.flush()
        finally:
            for close in self._closers:
                close()

    async def _on_risk(self, delivery: Delivery) -> None:
        desk = self._desk
        # At once, without waiting for the turn: an order that is about to be sent must see it.
        is_news = desk.take_state(delivery)
        if is_news and desk.state is TradingState.HALTED:
            async with desk.turn:
                await self._cancels.cancel_all(HALTED)
                await desk.publisher.flush()
        await desk.wake()

    async def _reconcile(self, *, repeat_snapshot: bool = False) -> None:
        async with self._desk.turn:
            await self._recovery.run()
            await self._desk.publisher.flush(repeat_snapshot=repeat_snapshot)

    async def _reconcile_forever(self) -> None:
        config = self._desk.config
        while True:
            is_settled = self._desk.is_reconciled and not self._desk.books.uncertain_orders()
            await asyncio.sleep(config.reconcile_interval_s if is_settled else config.resolve_interval_s)
            try:
                await self._reconcile()
            except UnavailableError as error:
                # The outbox keeps what could not be published; the next pass goes on with it.
                self._desk.log.warning("reconciliation_not_published", error=repr(error))
