"""MEXC's execution side: orders over REST, reports over the account's stream.

In: order requests under the caller's ids. Out: orders, trades and balances as MEXC knows them, reports as they come.
Never: a second execution under one client order id, a guess at an outcome, a byte sent for what cannot be.

A key that may withdraw is refused. `canWithdraw` of `GET account` may be the account's and not the key's, and MEXC
documents no other place: unless it says no, a person's word that the key may not is needed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal, InvalidOperation
from random import Random

from shared.clock import wall_ns
from shared.errors import ConfigError, IntegrityError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.live.config import WireConfig
from shared.exchange.live.filters import MarketRules, WireKind, WireOrder, at_bound, is_within, middle, prepare
from shared.exchange.live.listing import Listing, takes_orders
from shared.exchange.live.socket import LiveSocket
from shared.exchange.mexc.account_stream import AccountWire, ListenKeys
from shared.exchange.mexc.market import timings_of
from shared.exchange.mexc.markets import Markets
from shared.exchange.mexc.memory import Memory
from shared.exchange.mexc.orders import acknowledged, as_asked, check_client_id, is_order_id, parameters
from shared.exchange.mexc.reads import AccountReads
from shared.exchange.mexc.rest import MexcRest, NoSuchOrderError
from shared.exchange.mexc.shapes import CanceledInfo, CreatedInfo, DepthInfo
from shared.exchange.mexc.words import VENUE
from shared.exchange.port import OrderRequest, StreamState, VenueOrder, VenueRejectCode, VenueReport, VenueTrade
from shared.messages import Balance, Instrument, OrderType, Side

# A cancelled order may be shown as open for a moment.
CANCEL_LOOKS, CANCEL_LOOK_S = 3, 0.05
BOUND_LEVELS = 100


class MexcVenue:
    """Be MEXC's execution side (`port.WireVenue`)."""

    def __init__(self, config: WireConfig, *, random: Random | None = None) -> None:
        self._config, self._random = config, random or Random()
        self._markets, self._memory = Markets(), Memory()
        self._open_rest: MexcRest | None = None
        self._reads: AccountReads | None = None
        self._keys: ListenKeys | None = None
        self._socket: LiveSocket | None = None
        self._symbols: tuple[str, ...] = ()
        self._listing: Listing | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_report: Callable[[VenueReport], None] = lambda _: None

    @property
    def venue(self) -> str:
        """Return the venue's name."""
        return VENUE

    async def open(self, symbols: Sequence[str], on_report: Callable[[VenueReport], None]) -> tuple[Instrument, ...]:
        """Connect, check the key (one that may withdraw is refused), start the account's stream; see the port.

        May be called again after it failed.
        """
        if self._socket is not None:
            raise RuntimeError("this account is open already")
        if not self._config.api_key or not self._config.secret:
            raise ConfigError(f"{VENUE} needs api_key and secret")
        try:
            rest = self._rest()
            await self._markets.load(rest, again=True)
            instruments = tuple(self._markets.rules(symbol).instrument for symbol in symbols)
            await rest.clock.measure()
            await self._check_key()
            self._symbols, self._on_report = tuple(symbols), on_report
            await self._start_stream(rest)
            for client_order_id in await self._ask().recent_ids(self._symbols):
                self._memory.add(client_order_id, None)
        except BaseException:
            await self.close()
            raise
        self._listing = Listing(
            {symbol: self._markets.rules(symbol) for symbol in symbols},
            lambda tokens: self._markets.listed(rest, tokens), interval_s=self._config.listing_interval_s,
        )  # fmt: skip
        self._spawn(self._listing.run())
        self._spawn(rest.clock.keep(self._config.clock_interval_s))
        return instruments

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        socket, keys, rest = self._socket, self._keys, self._open_rest
        self._socket = self._keys = self._open_rest = self._reads = None
        if socket is not None:
            await socket.close()
        if keys is not None:
            await keys.give_up()
        if rest is not None:
            await rest.close()

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Send an order and return it with what is known so far; see the port.

        An id that was used before is looked up, never sent again.
        """
        check_client_id(request.client_order_id)
        known = self._memory.get(request.client_order_id)
        if known is not None:
            return await self._again(request, known.request)
        try:
            rules = self._markets.rules(request.instrument)
        except ConfigError as error:
            raise RejectedError(VenueRejectCode.INSTRUMENT_UNKNOWN.value, str(error)) from None
        if self._listing is not None and not takes_orders(rules, request.side):
            # It may have opened since it was looked at.
            await self._listing.before_refusal()
            rules = self._markets.rules(request.instrument)
        order = await self._prepare(request, rules)
        market_id, sent_ns = self._markets.market_id(request.instrument), wall_ns()
        # Remembered before it is sent: whatever happens now, this id is never sent again by this process.
        self._memory.add(request.client_order_id, request)
        try:
            created = await self._rest().order(
                "order", CreatedInfo, parameters(order, market_id, request.client_order_id)
            )
        except (RejectedError, UnavailableError) as error:
            self._memory.forget(request.client_order_id)
            if self._listing is not None:
                self._listing.on_refused(error)
            raise _named(error, order) from None
        if not is_order_id(created.order_id) or created.symbol != market_id:
            raise UnknownOutcomeError(f"the acknowledgement names {created.symbol} {created.order_id!r:.40}")
        newest = self._memory.add(request.client_order_id, request).newest
        answer = acknowledged(request, created, sent_ns)
        if newest is not None and newest.venue_order_id == answer.venue_order_id:
            answer = newest
        else:
            self._memory.on_order(answer)
        return self._memory.with_fills(answer)

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel an order and return how it now stands; None when MEXC knows no such order; see the port."""
        check_client_id(client_order_id)
        self._memory.on_cancel(client_order_id)
        params: dict[str, str | int] = {
            "symbol": self._markets.market_id(instrument), "origClientOrderId": client_order_id,
        }  # fmt: skip
        try:
            await self._rest().cancel("order", CanceledInfo, params)
        except NoSuchOrderError:
            # It is filled, or cancelled, perhaps by this very request, or unknown: only the order itself can tell.
            return await self._look(client_order_id, instrument)
        for look in range(CANCEL_LOOKS):
            order = await self._look(client_order_id, instrument)
            if order is not None and order.state.is_terminal:
                return order
            await asyncio.sleep(CANCEL_LOOK_S * (look + 1))
        if order is None:
            raise UnknownOutcomeError(f"{client_order_id} was cancelled and is not shown")
        return order

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return the order, or None when MEXC does not show it, which soon after a submit proves nothing."""
        check_client_id(client_order_id)
        return await self._ask().order(client_order_id, instrument)

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return the orders that still rest, of one instrument or (None) of all opened ones, oldest first."""
        return await self._ask().open_orders(self._symbols if instrument is None else (instrument,))

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Return the account's trades since a minute before `sequence` (milliseconds), oldest first; see the port.

        MEXC remembers a month. `limit` is of no use here: all of them are returned.
        """
        del limit
        return await self._ask().trades(self._symbols if instrument is None else (instrument,), sequence)

    async def balances(self) -> tuple[Balance, ...]:
        """Return every asset's free and locked amount, sorted by asset."""
        return await self._ask().balances()

    async def price(self, instrument: str) -> Decimal | None:
        """Return the middle of the best bid and ask in any market of MEXC; None where there is none."""
        try:
            params: dict[str, str | int] = {"symbol": self._markets.market_id(instrument), "limit": 5}
        except ConfigError:
            return None
        info = await self._rest().read("depth", DepthInfo, params)
        return middle([Decimal(price) for price, _ in info.bids], [Decimal(price) for price, _ in info.asks])

    async def _again(self, request: OrderRequest, first: OrderRequest | None) -> VenueOrder:
        if first is not None and first != request:
            raise IntegrityError(f"{request.client_order_id} is taken by another request")
        try:
            found = await self.query(request.client_order_id, request.instrument)
        except (RejectedError, UnavailableError) as error:
            # The question is refused or lost; the order that was sent before may live.
            raise UnknownOutcomeError(f"{request.client_order_id} was sent before, and now: {error}") from error
        if found is None:
            raise UnknownOutcomeError(f"{request.client_order_id} was sent before and is not shown")
        if (found.instrument, found.side) != (request.instrument, request.side):
            raise IntegrityError(f"{request.client_order_id} is taken by order {found.venue_order_id}")
        return as_asked(found, request, was_cancelled=self._memory.was_cancelled(request.client_order_id))

    async def _look(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        try:
            return await self._ask().order(client_order_id, instrument)
        except UnavailableError as error:
            raise UnknownOutcomeError(f"{client_order_id} was to be cancelled, and then: {error}") from error

    async def _prepare(self, request: OrderRequest, rules: MarketRules) -> WireOrder:
        is_by_quantity = request.quantity is not None and request.price_bound is None
        if request.type is OrderType.MARKET and request.side is Side.BUY and is_by_quantity:
            detail = f"{VENUE} buys at market by quote amount: give quote_amount, or a price_bound"
            raise RejectedError(VenueRejectCode.REQUEST_MALFORMED.value, detail)
        order = prepare(request, rules)
        if request.quote_amount is None or request.price_bound is None:
            return order
        # MEXC has no bound for a market order: it is sent as one only where the book lies within the bound now.
        return order if await self._fits(request) else at_bound(request, rules)

    async def _fits(self, request: OrderRequest) -> bool:
        params: dict[str, str | int] = {
            "symbol": self._markets.market_id(request.instrument), "limit": BOUND_LEVELS,
        }  # fmt: skip
        try:
            info = await self._rest().read("depth", DepthInfo, params)
            side = info.asks if request.side is Side.BUY else info.bids
            return is_within(request, [(Decimal(price), Decimal(quantity)) for price, quantity in side])
        except (UnavailableError, RejectedError, InvalidOperation):
            return False

    async def _check_key(self) -> None:
        try:
            account = await self._ask().account()
        except RejectedError as error:
            raise ConfigError(f"{VENUE} refuses the credentials: {error.detail}") from error
        if account.can_withdraw is not False and not self._config.key_cannot_withdraw:
            raise ConfigError(
                f"the {VENUE} account may withdraw, and {VENUE} does not tell whether this key may. Look at the key's "
                "page there: if withdrawals are off for it, set exchange.key_cannot_withdraw=true; else make a key "
                "that may only read and trade"
            )
        if account.can_trade is False:
            raise ConfigError(f"the {VENUE} key may not trade: allow it, or make another one")

    async def _start_stream(self, rest: MexcRest) -> None:
        config = self._config
        wire = AccountWire(self._markets.tokens, self._take, self._missing_fee)
        self._keys = keys = ListenKeys(rest, config.ws_url)
        self._socket = socket = LiveSocket(
            f"{VENUE} account", keys.address, wire, rest.session, timings_of(config), random=self._random
        )
        wire.on_pong, wire.on_good = socket.pong, keys.mark_good
        await socket.open(config.connect_timeout_s + config.ack_timeout_s)
        self._spawn(keys.keep_alive(socket))

    def _take(self, report: VenueReport) -> None:
        memory = self._memory
        if isinstance(report, VenueTrade):
            memory.on_trade(report)
        elif not isinstance(report, StreamState):
            client_order_id = report.client_order_id
            request, was_cancelled = memory.request(client_order_id), memory.was_cancelled(client_order_id)
            report = as_asked(report, request, was_cancelled=was_cancelled)
            memory.on_order(report)
        self._on_report(report)

    def _missing_fee(self, instrument: str, venue_order_id: str) -> None:
        self._spawn(self._report_trades(instrument, venue_order_id))

    async def _report_trades(self, instrument: str, venue_order_id: str) -> None:
        try:
            trades = await self._ask().trades_of(venue_order_id, instrument, 0)
        except (UnavailableError, RejectedError):
            # Whoever reconciles finds them later.
            return
        for trade in trades:
            self._take(trade)

    def _rest(self) -> MexcRest:
        if self._open_rest is None:
            self._open_rest = MexcRest(self._config, random=self._random)
            self._reads = AccountReads(self._open_rest, self._markets, self._memory)
        return self._open_rest

    def _ask(self) -> AccountReads:
        self._rest()
        assert self._reads is not None
        return self._reads

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _named(error: RejectedError | UnavailableError, order: WireOrder) -> RejectedError | UnavailableError:
    # MEXC uses one code for a post-only order that would take, and for an order type that a market does not have.
    is_post_only = isinstance(error, RejectedError) and error.code == VenueRejectCode.POST_ONLY_WOULD_TAKE
    if isinstance(error, RejectedError) and is_post_only and order.kind is not WireKind.LIMIT_MAKER:
        return RejectedError(VenueRejectCode.REQUEST_MALFORMED.value, error.detail)
    return error
