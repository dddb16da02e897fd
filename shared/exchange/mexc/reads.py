"""What MEXC knows of our account, by REST: orders, executions, balances.

In: questions. Out: our words. Never: "there is none" where the question failed; a list cut off at MEXC's page without
saying so.
"""

from collections.abc import Sequence

import msgspec

from shared.errors import UnavailableError
from shared.exchange.mexc.markets import Markets
from shared.exchange.mexc.memory import Memory
from shared.exchange.mexc.orders import order_of, trade_of
from shared.exchange.mexc.rest import MexcRest, NoSuchOrderError
from shared.exchange.mexc.shapes import AccountInfo, OrderInfo, TradeInfo
from shared.exchange.mexc.words import VENUE
from shared.exchange.port import VenueOrder, VenueTrade
from shared.messages import Balance

# MEXC lists at most so many executions at once, newest first, of the last month.
TRADES_MAX, HISTORY_MS = 100, 30 * 86_400_000
ORDERS_MAX = 1_000
AHEAD_MS, OVERLAP_MS = 60_000, 60_000
Fields = dict[str, str | int]


class AccountReads:
    """Ask about one account."""

    def __init__(self, rest: MexcRest, markets: Markets, memory: Memory) -> None:
        self._rest, self._markets, self._memory = rest, markets, memory

    async def account(self) -> AccountInfo:
        """Return the account. Raises UnavailableError, and RejectedError for credentials that are refused."""
        return await self._rest.read("account", AccountInfo, signed=True)

    async def balances(self) -> tuple[Balance, ...]:
        """Return what is held, sorted by asset."""
        found = [Balance(one.asset, one.free, one.locked) for one in (await self.account()).balances]
        return tuple(sorted(found, key=lambda one: one.asset))

    async def order(self, client_order_id: str, instrument: str) -> VenueOrder | None:
        """Return an order with its executions, or None when MEXC does not show it."""
        params: Fields = {"symbol": self._markets.market_id(instrument), "origClientOrderId": client_order_id}
        try:
            info = await self._rest.read("order", OrderInfo, params, signed=True)
        except NoSuchOrderError:
            return None
        order = self._order(info, instrument, client_order_id)
        if info.client_order_id is None:
            # MEXC has found it by this id; it does not always say it again.
            order = msgspec.structs.replace(order, client_order_id=client_order_id)
        if order.client_order_id != client_order_id or info.symbol != params["symbol"]:
            raise UnavailableError(f"{VENUE} answered with {info.symbol} {info.client_order_id}, not {client_order_id}")
        if order.filled_quantity:
            for trade in await self.trades_of(order.venue_order_id, instrument, info.time):
                self._memory.on_trade(trade)
        self._memory.on_order(order)
        return self._memory.with_fills(order)

    async def open_orders(self, instruments: Sequence[str]) -> tuple[VenueOrder, ...]:
        """Return what rests in these markets, oldest first."""
        found: list[VenueOrder] = []
        for instrument in instruments:
            params: Fields = {"symbol": self._markets.market_id(instrument)}
            infos = await self._rest.read("openOrders", list[OrderInfo], params, signed=True)
            found += [self._order(info, instrument, info.client_order_id or "") for info in infos]
        return tuple(self._memory.with_fills(one) for one in sorted(found, key=lambda order: order.created_at_ns))

    async def recent_ids(self, instruments: Sequence[str]) -> set[str]:
        """Return the client order ids of the last day in these markets."""
        found: set[str] = set()
        for instrument in instruments:
            params: Fields = {"symbol": self._markets.market_id(instrument), "limit": ORDERS_MAX}
            infos = await self._rest.read("allOrders", list[OrderInfo], params, signed=True)
            found |= {info.client_order_id for info in infos if info.client_order_id}
        return found

    async def trades(self, instruments: Sequence[str], since_ms: int) -> tuple[VenueTrade, ...]:
        """Return every execution in these markets since a minute before a time, oldest first; 0: of the last month."""
        now_ms = self._rest.clock.now_ms()
        first_ms = max(since_ms - OVERLAP_MS, now_ms - HISTORY_MS)
        found: list[VenueTrade] = []
        for instrument in instruments:
            found += await self._span({}, instrument, first_ms, now_ms + AHEAD_MS)
        return tuple(sorted(found, key=lambda trade: (trade.sequence, trade.fill.fill_id)))

    async def trades_of(self, venue_order_id: str, instrument: str, since_ms: int) -> list[VenueTrade]:
        """Return every execution of an order that was made at `since_ms`."""
        params: Fields = {"orderId": venue_order_id}
        found = await self._page(params, instrument)
        if len(found) < TRADES_MAX:
            return found
        first_ms = max(since_ms - OVERLAP_MS, self._rest.clock.now_ms() - HISTORY_MS)
        return await self._span(params, instrument, first_ms, self._rest.clock.now_ms() + AHEAD_MS)

    async def _span(self, params: Fields, instrument: str, first_ms: int, last_ms: int) -> list[VenueTrade]:
        """Return the executions from `first_ms` to `last_ms`; a full page may hide others, so its span is halved."""
        found: dict[str, VenueTrade] = {}
        spans = [(first_ms, last_ms)]
        while spans:
            first, last = spans.pop()
            page = await self._page({**params, "startTime": first, "endTime": last}, instrument)
            if len(page) >= TRADES_MAX and last > first:
                middle = (first + last) // 2
                spans += [(first, middle), (middle + 1, last)]
                continue
            # More than a page within one millisecond cannot be told apart by MEXC's interface; the stream has them.
            found.update((trade.fill.fill_id, trade) for trade in page)
        return sorted(found.values(), key=lambda trade: (trade.sequence, trade.fill.fill_id))

    async def _page(self, params: Fields, instrument: str) -> list[VenueTrade]:
        sent: Fields = {"symbol": self._markets.market_id(instrument), **params, "limit": TRADES_MAX}
        infos = await self._rest.read("myTrades", list[TradeInfo], sent, signed=True)
        try:
            return [trade_of(info, instrument) for info in reversed(infos)]
        except ValueError as error:
            raise UnavailableError(f"{VENUE} listed an execution that cannot be read: {error}") from error

    def _order(self, info: OrderInfo, instrument: str, client_order_id: str) -> VenueOrder:
        memory = self._memory
        try:
            return order_of(
                info, instrument, (), memory.request(client_order_id),
                was_cancelled=memory.was_cancelled(client_order_id),
            )  # fmt: skip
        except ValueError as error:
            raise UnavailableError(f"{VENUE} told of an order that cannot be read: {error}") from error
