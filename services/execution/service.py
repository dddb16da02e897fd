"""The execution service: recover, then take approvals, market steps, trading states and commands, one at a time.

In and out as the package says. Never: an approval taken before the account was reconciled with the venue.
"""

import asyncio
from collections.abc import Callable

from services.execution.cancels import Cancels
from services.execution.commands import Commands
from services.execution.desk import Desk
from services.execution.market_input import MarketInput
from services.execution.quotes import Quotes
from services.execution.recovery import HALTED, Recovery
from services.execution.submission import Submission
from services.execution.trades import no_price
from services.execution.wire import WireAccount, open_books
from shared.bus import subjects
from shared.bus.port import Delivery, Subscription
from shared.bus.streams import MD_BARS, ORDERS, RISK
from shared.errors import UnavailableError
from shared.exchange.port import WireVenue
from shared.messages import TradingState

DURABLE_ORDERS = "execution"
DURABLE_MARKET = "execution-market"
DURABLE_RISK = "execution-risk"
UNANSWERED_MAX_S = 15.0


class ExecutionService:
    """Run one account's execution over a desk; `shared.lifecycle` starts and drains it.

    `closers` are called last at a clean stop. `wire` is the desk's venue once more when it is one at a wire, `symbols`
    are the markets to open there. `quotes` feed a simulated venue with a live market.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        timeframe: str,
        closers: tuple[Callable[[], None], ...] = (),
        wire: WireVenue | None = None,
        symbols: tuple[str, ...] = (),
        quotes: Quotes | None = None,
    ) -> None:
        self.desk = self._desk = desk
        self._quotes = quotes
        self._closers = closers
        self._timeframe = timeframe
        self._cancels = Cancels(desk)
        self._submission = Submission(desk)
        price_of = no_price if wire is None else wire.price
        self._recovery = Recovery(desk, self._submission, self._cancels, open_books, price_of)
        self._account = None if wire is None else WireAccount(desk, wire, self._recovery, symbols)
        self._market = MarketInput(desk, self._recovery)
        self._commands = Commands(desk, self._recovery, self._cancels)
        self._subscriptions: list[Subscription] = []
        self._passes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Recover, publish what was not, and take work. Startup is recovery: there is no other way in."""
        desk = self._desk
        desk.host.advance_clock(desk.books.seen_ns)
        await desk.refresh_state()
        if self._account is not None:
            desk.host.spawn(self._account.watch_forever(), "pauses")
            await self._account.connect()
        await self._reconcile(repeat_snapshot=True)
        if self._account is not None:
            desk.host.spawn(self._account.book_forever(), "reports")
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
        if self._quotes is not None:
            self._subscriptions.append(await self._quotes.start(self._recovery))
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
            if self._account is not None:
                await self._account.close()
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

    async def _reconcile(self, *, repeat_snapshot: bool = False) -> bool:
        async with self._desk.turn:
            findings = await self._recovery.run()
            await self._desk.publisher.flush(repeat_snapshot=repeat_snapshot)
        return findings.conclusive

    async def _reconcile_forever(self) -> None:
        desk, unanswered = self._desk, 0
        most_s = 0.0 if self._account is None else UNANSWERED_MAX_S
        while True:
            is_settled = desk.is_reconciled and not desk.books.uncertain_orders()
            delay_s = desk.config.reconcile_interval_s if is_settled else desk.config.resolve_interval_s
            # A venue that does not answer is asked less and less often; a stream that is up again is asked at once.
            await _set_within(desk.look_again, max(delay_s, min(delay_s * 2**unanswered, most_s)))
            desk.look_again.clear()
            try:
                unanswered = 0 if await self._reconcile() else min(unanswered + 1, 10)
            except UnavailableError as error:
                # The outbox keeps what could not be published; the next pass goes on with it.
                desk.log.warning("reconciliation_not_published", error=repr(error))


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
