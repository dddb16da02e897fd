"""Binance's private side: one account's orders, trades and balances.

In: requests under the caller's ids. Out: orders and trades as Binance knows them. Never: an order repeated while the
first one may still be under way; a key that may withdraw; "not found" taken for "failed".

Binance refuses a client order id twice only while the first order is open. What was sent by this object is therefore
remembered and asked for first; across a restart the caller's journal asks, by `query`.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.errors import ConfigError, IntegrityError, RejectedError, UnavailableError, UnknownOutcomeError
from shared.exchange.binance.account import AccountRow, check_key, trades_of_symbol
from shared.exchange.binance.codes import (
    CANCEL_REJECTED,
    CODES,
    DUPLICATE_TEXT,
    KEY_REFUSED,
    ORDER_ARCHIVED,
    ORDER_UNKNOWN,
)
from shared.exchange.binance.endpoints import ws_api_url
from shared.exchange.binance.market import fetch_rules, listed_rules, timings_of
from shared.exchange.binance.orders import (
    ExecutionReport,
    OrderRow,
    TradeRow,
    check_answer,
    order_of,
    reports_of,
    trade_of,
)
from shared.exchange.binance.rest import RECV_WINDOW_MS, AnswerError, BinanceRest, Params, ReadRefusedError
from shared.exchange.binance.user import UserWire
from shared.exchange.live.config import WireConfig
from shared.exchange.live.filters import (
    MarketRules,
    WireKind,
    WireOrder,
    at_bound,
    is_within,
    middle,
    prepare,
    wire_text,
)
from shared.exchange.live.listing import Listing, takes_orders
from shared.exchange.live.outcome import Outcome, judge_answer
from shared.exchange.live.socket import LiveSocket
from shared.exchange.paper_rules import refuse
from shared.exchange.port import OrderRequest, StreamState, VenueOrder, VenueRejectCode, VenueReport, VenueTrade
from shared.messages import Balance, Fill, Instrument, OrderType, Side

SENT_MAX = 20_000
CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
BOUND_LEVELS = 100
TYPE_WORDS = {WireKind.LIMIT: "LIMIT", WireKind.LIMIT_MAKER: "LIMIT_MAKER", WireKind.MARKET: "MARKET"}


class _Sent(msgspec.Struct):
    request: OrderRequest
    at_ns: int


class _Levels(msgspec.Struct):
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


class BinanceVenue:
    """Be the private side of Binance spot, or of whatever speaks like it at the configured addresses."""

    def __init__(self, config: WireConfig, *, random: Random | None = None) -> None:
        if not config.api_key or not config.secret:
            raise ConfigError("api_key and secret must be set to trade at binance")
        self._config, self._random = config, random or Random()
        self._rest = BinanceRest(config, random=self._random)
        self._rules: dict[str, MarketRules] = {}
        self._tokens: dict[str, str] = {}
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._on_report: Callable[[VenueReport], None] = _unheard
        self._wire: UserWire | None = None
        self._socket: LiveSocket | None = None
        self._listing: Listing | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def venue(self) -> str:
        """Return the venue's name, as in subjects."""
        return self._config.venue

    async def open(self, symbols: Sequence[str], on_report: Callable[[VenueReport], None]) -> tuple[Instrument, ...]:
        """Connect, check the key (one that may withdraw is refused with ConfigError), start the account's stream.

        `symbols` are bus tokens. Returns their grids. Raises ConfigError for a market that the venue does not trade
        and for credentials that it refuses, UnavailableError when it does not answer.
        """
        if self._socket is not None:
            raise ConfigError("this venue is open already: close it, or make another one")
        try:
            return await self._open(symbols, on_report)
        except ReadRefusedError as error:
            await self.close()
            if error.code in KEY_REFUSED:
                raise ConfigError(
                    f"{error}: check the key, its permissions, and the addresses it may be used from"
                ) from error
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        self._on_report = _unheard
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()
        await self._rest.close()

    async def submit(self, request: OrderRequest) -> VenueOrder:
        """Send an order and return it with the fills known so far.

        The same request under the same client order id returns the same order again, never a second execution.
        Raises RejectedError (a VenueRejectCode) for a definite no, UnknownOutcomeError when nobody knows,
        IntegrityError when the id is taken by another request.
        """
        name, rules = self._market(request.instrument)
        if not CLIENT_ORDER_ID.fullmatch(request.client_order_id):
            raise refuse(VenueRejectCode.REQUEST_MALFORMED, "client_order_id must be 1 to 36 letters, digits or .:/_-")
        if self._listing is not None and not takes_orders(rules, request.side):
            # It may have opened since it was looked at.
            await self._listing.before_refusal()
            rules = self._market(request.instrument)[1]
        order = prepare(request, rules)
        sent = self._sent.get(request.client_order_id)
        if sent is not None:
            known = await self._known(request, sent)
            if known is not None:
                return known
        if request.quote_amount is not None and request.price_bound is not None:
            order = await self._bounded(request, rules, order, name)
        return await self._send(request, order, name)

    async def cancel(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Cancel an order and return how it now stands; None when the venue knows no such order.

        Cancelling an order that is filled or cancelled already changes nothing and returns it.
        Raises UnknownOutcomeError when nobody knows.
        """
        name, _ = self._market(instrument)
        params = {"symbol": name, "origClientOrderId": client_order_id}
        try:
            row = await self._rest.cancel("privateDeleteOrder", params, OrderRow)
        except AnswerError as error:
            if error.answer.code not in (CANCEL_REJECTED, ORDER_UNKNOWN):
                raise judge_answer(error.answer, CODES).error() from error
            # Nothing rests under this id: never, or no more. The connection may also have sent the cancel twice.
            order = await self.query(client_order_id, instrument)
            if order is not None and not order.state.is_terminal:
                raise UnknownOutcomeError(f"binance neither cancels nor closes {client_order_id}: {error}") from error
            return order
        return await self._whole(row, instrument)

    async def query(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return the order with that client order id, or None when the venue says there is none."""
        name, _ = self._market(instrument)
        params = {"symbol": name, "origClientOrderId": client_order_id}
        try:
            row = await self._rest.read("privateGetOrder", params, OrderRow, weight=4)
        except ReadRefusedError as error:
            # Archived orders had no execution, and are older than any that is asked for here.
            if error.code in (ORDER_UNKNOWN, CANCEL_REJECTED, ORDER_ARCHIVED):
                return None
            raise
        return await self._whole(row, instrument)

    async def open_orders(self, instrument: str | None = None) -> tuple[VenueOrder, ...]:
        """Return the orders that still rest, of one instrument or (None) of all, oldest first."""
        params: Params = {} if instrument is None else {"symbol": self._market(instrument)[0]}
        weight = 80 if instrument is None else 6
        rows = await self._rest.read("privateGetOpenOrders", params, list[OrderRow], weight=weight)
        own = sorted((row for row in rows if row.symbol in self._tokens), key=lambda row: (row.time, row.order_id))
        return tuple(order_of(row, self._tokens[row.symbol], (), self._asked(row.client_order_id)) for row in own)

    async def trades_since(
        self, sequence: int, *, limit: int = 1000, instrument: str | None = None
    ) -> tuple[VenueTrade, ...]:
        """Return the account's trades since a minute before `sequence` (milliseconds), oldest first.

        There may be more than `limit`: the times of trades repeat, so a cut would hide what has the same time.
        """
        del limit
        found: list[tuple[int, int, VenueTrade]] = []
        names = self._tokens.items() if instrument is None else ((self._market(instrument)[0], instrument),)
        for name, token in names:
            rows = await trades_of_symbol(self._rest, name, sequence)
            found.extend((row.time, row.id, trade_of(row, token)) for row in rows)
        return tuple(trade for _, _, trade in sorted(found, key=lambda one: one[:2]))

    async def balances(self) -> tuple[Balance, ...]:
        """Return every asset's free and locked amount, sorted by asset; an asset without any is absent."""
        account = await self._rest.read("privateGetAccount", {"omitZeroBalances": "true"}, AccountRow, weight=20)
        held = (Balance(row.asset, row.free, row.locked) for row in account.balances if row.free or row.locked)
        return tuple(sorted(held, key=lambda balance: balance.asset))

    async def price(self, instrument: str) -> Decimal | None:
        """Return the middle of the best bid and ask in any market of Binance; None where there is none."""
        params: Params = {"symbol": instrument.replace("-", ""), "limit": 5}
        try:
            book = await self._rest.read("publicGetDepth", params, _Levels, weight=5)
        except ReadRefusedError as error:
            if error.reject_code is VenueRejectCode.INSTRUMENT_UNKNOWN:
                return None
            raise
        return middle([price for price, _ in book.bids], [price for price, _ in book.asks])

    def clock_offset_ns(self) -> int:
        """Return how far the venue's clock is ahead of ours, as measured last."""
        return self._rest.clock.offset_ns

    async def _open(self, symbols: Sequence[str], on_report: Callable[[VenueReport], None]) -> tuple[Instrument, ...]:
        config = self._config
        session = await self._rest.start()
        self._on_report = on_report
        await check_key(self._rest)
        found = await fetch_rules(self._rest, symbols)
        self._rules = {rules.instrument.symbol: rules for rules in found.values()}
        self._tokens = {name: rules.instrument.symbol for name, rules in found.items()}
        wire = UserWire(config, self._rest.clock.now_ms, self._on_execution, self._on_state)
        socket = LiveSocket(
            f"{config.venue} account", self._address, wire, session, timings_of(config), random=self._random
        )
        wire.socket, self._wire, self._socket = socket, wire, socket
        try:
            await socket.open(config.connect_timeout_s + config.ack_timeout_s)
        except UnavailableError as error:
            if wire.refusal is not None:
                raise ConfigError(f"binance refuses the account's stream: {wire.refusal}: check the key") from error
            raise
        self._listing = Listing(self._rules.copy(), self._listed, interval_s=config.listing_interval_s)
        self._watching = asyncio.create_task(self._listing.run(), name=f"{config.venue} listing")
        return tuple(rules.instrument for rules in found.values())

    async def _listed(self, tokens: Sequence[str]) -> dict[str, MarketRules]:
        found = await listed_rules(self._rest, tokens)
        self._rules.update(found)
        return found

    async def _address(self) -> str:
        if self._wire is not None and self._wire.is_clock_off:
            await self._rest.clock.measure()
        return ws_api_url(self._config)

    async def _known(self, request: OrderRequest, sent: _Sent) -> VenueOrder | None:
        """Return the order that was sent before, or None when it certainly never came to be."""
        if sent.request != request:
            raise IntegrityError(f"{request.client_order_id} was sent with another request before")
        order = await self.query(request.client_order_id, request.instrument)
        if order is not None:
            return order
        age_s = (monotonic_ns() - sent.at_ns) / NANOSECONDS_PER_SECOND
        # Until its time window has passed, a request that is still on its way can be executed.
        if age_s < RECV_WINDOW_MS / 1000 + self._config.request_timeout_s:
            raise UnknownOutcomeError(f"{request.client_order_id} was sent {age_s:.1f} s ago and is not visible yet")
        return None

    async def _bounded(self, request: OrderRequest, rules: MarketRules, order: WireOrder, name: str) -> WireOrder:
        """Return the order by quote amount if the book holds it within the bound, else one that cannot go beyond."""
        try:
            params: Params = {"symbol": name, "limit": BOUND_LEVELS}
            book = await self._rest.read("publicGetDepth", params, _Levels, weight=5)
        except UnavailableError:
            book = _Levels([], [])
        if is_within(request, book.asks if request.side is Side.BUY else book.bids):
            return order
        return at_bound(request, rules)

    async def _send(self, request: OrderRequest, order: WireOrder, name: str) -> VenueOrder:
        self._remember(request)
        try:
            row = await self._rest.order("privatePostOrder", _params(request, order, name), OrderRow)
        except AnswerError as error:
            answer = error.answer
            if DUPLICATE_TEXT in answer.message.lower():
                return await self._existing(request)
            verdict = judge_answer(answer, CODES)
            if verdict.outcome is not Outcome.UNKNOWN:
                self._sent.pop(request.client_order_id, None)
            refusal = verdict.error()
            if self._listing is not None:
                self._listing.on_refused(refusal)
            raise refusal from error
        except (RejectedError, UnavailableError):
            # Nothing left this machine.
            self._sent.pop(request.client_order_id, None)
            raise
        check_answer(row, request, name)
        report = order_of(row, request.instrument, asked=request)
        if sum((fill.quantity for fill in report.fills), Decimal(0)) < report.filled_quantity:
            return await self._with_fills(row, report, name)
        return report

    async def _existing(self, request: OrderRequest) -> VenueOrder:
        order = await self.query(request.client_order_id, request.instrument)
        if order is None:
            raise UnknownOutcomeError(f"binance has an order {request.client_order_id}, and does not show it")
        is_same = order.side is request.side and (request.quantity is None or order.quantity == request.quantity)
        if not is_same or (request.type is OrderType.LIMIT and order.limit_price != request.limit_price):
            raise IntegrityError(f"{request.client_order_id} is taken by another order at binance")
        return order

    async def _whole(self, row: OrderRow, instrument: str) -> VenueOrder:
        client_order_id = row.orig_client_order_id or row.client_order_id
        order = order_of(row, instrument, (), self._asked(client_order_id))
        return await self._with_fills(row, order, row.symbol) if order.filled_quantity else order

    async def _with_fills(self, row: OrderRow, order: VenueOrder, name: str) -> VenueOrder:
        params: Params = {"symbol": name, "orderId": row.order_id, "limit": 1000}
        try:
            rows = await self._rest.read("privateGetMyTrades", params, list[TradeRow], weight=5)
        except UnavailableError:
            # The order's own answer is there: it must not be lost because its trades are not.
            return order
        fills: tuple[Fill, ...] = tuple(
            trade_of(one, order.instrument).fill for one in sorted(rows, key=lambda r: r.id)
        )
        return msgspec.structs.replace(order, fills=fills)

    def _on_execution(self, report: ExecutionReport) -> None:
        token = self._tokens.get(report.s)
        if token is None:
            return
        own = report.C if report.C not in ("", "null") else report.c
        for one in reports_of(report, token, self._asked(own)):
            self._on_report(one)

    def _on_state(self, is_live: bool, reason: str) -> None:
        self._on_report(StreamState(is_live, reason))

    def _market(self, instrument: str) -> tuple[str, MarketRules]:
        rules = self._rules.get(instrument)
        if rules is None:
            raise refuse(VenueRejectCode.INSTRUMENT_UNKNOWN, f"{instrument} was not opened at {self.venue}")
        return instrument.replace("-", ""), rules

    def _asked(self, client_order_id: str) -> OrderRequest | None:
        sent = self._sent.get(client_order_id)
        return None if sent is None else sent.request

    def _remember(self, request: OrderRequest) -> None:
        self._sent[request.client_order_id] = _Sent(request, monotonic_ns())
        while len(self._sent) > SENT_MAX:
            self._sent.popitem(last=False)


def _params(request: OrderRequest, order: WireOrder, name: str) -> Params:
    params: dict[str, str | int] = {
        "symbol": name,
        "side": "BUY" if order.side is Side.BUY else "SELL",
        "type": TYPE_WORDS[order.kind],
        "newClientOrderId": request.client_order_id,
        "newOrderRespType": "FULL",
    }
    if order.time_in_force is not None:
        params["timeInForce"] = order.time_in_force.value.upper()
    for word, value in (("quantity", order.quantity), ("quoteOrderQty", order.quote_amount), ("price", order.price)):
        if value is not None:
            params[word] = wire_text(value)
    return params


def _unheard(_: VenueReport) -> None:
    return None
