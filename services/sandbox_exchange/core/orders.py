"""The orders that the venue knows.

In: new orders, and the end of old ones. Out: them by id, by client order id, by account.
Never: a closed order of the house: those are forgotten, so that a day of background trading fits into memory.
An account's ended orders are forgotten when `history.History` says so.
"""

from collections import Counter
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.model import HOUSE, OrderKind, OrderStatus, Refusal, RefusalCode, VenueOrder
from shared.matching import FeeMode, SelfTradePrevention
from shared.matching.exact import add, multiply
from shared.messages import Side, TimeInForce

ONE = Decimal(1)
OPEN = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class FeeTerms(msgspec.Struct, frozen=True):
    """State what an order's executions cost; they are the market's when the order was placed."""

    maker_rate: Decimal
    taker_rate: Decimal
    mode: FeeMode

    def to_lock(self, side: Side, amount: Decimal) -> Decimal:
        """Return what must be locked to spend `amount`: the fee too, where it is charged in the asset spent."""
        if self.mode is not (FeeMode.QUOTE if side is Side.BUY else FeeMode.BASE):
            return amount
        return multiply(amount, add(ONE, max(self.maker_rate, self.taker_rate)))


class OrderRecord(msgspec.Struct, eq=False):
    """Hold an order and the amount of `lock_asset` that is still locked for it.

    `ended` numbers the ends of orders as they came; it is 0 while an order is open, and for the house's.
    """

    order_id: int
    client_order_id: str
    account: str
    symbol: str
    side: Side
    kind: OrderKind
    time_in_force: TimeInForce
    status: OrderStatus
    price: Decimal | None
    quantity: Decimal | None
    quote_amount: Decimal | None
    executed_quantity: Decimal
    executed_quote: Decimal
    self_trade: SelfTradePrevention
    created_ns: int
    updated_ns: int
    lock_asset: str
    locked: Decimal
    fees: FeeTerms
    ended: int = 0

    def snapshot(self) -> VenueOrder:
        """Return the order as it stands."""
        return VenueOrder(
            self.order_id,
            self.client_order_id,
            self.account,
            self.symbol,
            self.side,
            self.kind,
            self.time_in_force,
            self.status,
            self.price,
            self.quantity,
            self.quote_amount,
            self.executed_quantity,
            self.executed_quote,
            self.self_trade,
            self.created_ns,
            self.updated_ns,
        )


class Orders:
    """Hold the orders. The house's are held while they rest.

    `touched` holds the ids of orders that came, changed or went since somebody emptied it; None while nobody asks.
    """

    def __init__(self) -> None:
        self.last_id = 0
        self.by_id: dict[int, OrderRecord] = {}
        self.touched: set[int] | None = None
        self._placed: dict[str, dict[str, dict[int, OrderRecord]]] = {}  # by account, then symbol
        self._open: dict[str, dict[int, OrderRecord]] = {}
        self._named: dict[tuple[str, str, str], list[OrderRecord]] = {}  # by client order id, the newest last
        self._open_client_ids: dict[tuple[str, str], int] = {}
        self._open_counts: Counter[tuple[str, str]] = Counter()  # by account and symbol

    def clear(self, last_id: int) -> None:
        """Forget every order; the next id follows `last_id`."""
        self.last_id = last_id
        for one in (self.by_id, self._placed, self._open, self._named, self._open_client_ids, self._open_counts):
            one.clear()

    def next_id(self) -> int:
        """Return a new order id; ids rise by one."""
        self.last_id += 1
        return self.last_id

    def add(self, order: OrderRecord) -> None:
        """Take in an order; the house's only when it rests."""
        self.by_id[order.order_id] = order
        self.touch(order)
        if order.account == HOUSE:
            return
        self._placed.setdefault(order.account, {}).setdefault(order.symbol, {})[order.order_id] = order
        self._named.setdefault((order.account, order.symbol, order.client_order_id), []).append(order)
        if order.status in OPEN:
            self._open.setdefault(order.account, {})[order.order_id] = order
            self._open_counts[order.account, order.symbol] += 1
            key = (order.account, order.client_order_id)
            self._open_client_ids[key] = self._open_client_ids.get(key, 0) + 1

    def close(self, order: OrderRecord) -> None:
        """Note that an order has ended."""
        self.touch(order)
        if order.account == HOUSE:
            self.by_id.pop(order.order_id, None)
            return
        if self._open[order.account].pop(order.order_id, None) is None:
            return
        self._open_counts[order.account, order.symbol] -= 1
        key = (order.account, order.client_order_id)
        self._open_client_ids[key] -= 1
        if not self._open_client_ids[key]:
            del self._open_client_ids[key]

    def touch(self, order: OrderRecord) -> None:
        """Note that an order which is held has changed."""
        if self.touched is not None and order.order_id in self.by_id:
            self.touched.add(order.order_id)

    def forget(self, order_id: int) -> None:
        """Forget an ended order."""
        order = self.by_id.pop(order_id)
        if self.touched is not None:
            self.touched.add(order_id)
        del self._placed[order.account][order.symbol][order_id]
        key = (order.account, order.symbol, order.client_order_id)
        named = self._named[key]
        named.remove(order)
        if not named:
            del self._named[key]

    def is_client_id_open(self, account: str, client_order_id: str) -> bool:
        """Tell whether an open order of the account has that client order id."""
        return (account, client_order_id) in self._open_client_ids

    def open_count(self, account: str, symbol: str | None = None) -> int:
        """Return how many orders of the account rest, in one market or in all (not kept for the house)."""
        return len(self._open.get(account, ())) if symbol is None else self._open_counts[account, symbol]

    def open(self, account: str, symbol: str | None) -> list[OrderRecord]:
        """Return the account's resting orders, oldest first."""
        if account == HOUSE:
            orders = [one for one in self.by_id.values() if one.account == HOUSE]
        else:
            orders = list(self._open.get(account, {}).values())
        return orders if symbol is None else [one for one in orders if one.symbol == symbol]

    def of_account(self, account: str, symbol: str) -> list[OrderRecord]:
        """Return the account's orders in a market that are kept, oldest first; of the house those that rest."""
        if account == HOUSE:
            return self.open(account, symbol)
        return list(self._placed.get(account, {}).get(symbol, {}).values())

    def find(self, account: str, symbol: str, order_id: int | None, client_order_id: str | None) -> OrderRecord:
        """Return an order; ORDER_UNKNOWN when the account has none like that in that market."""
        order = self.by_id.get(order_id) if order_id is not None else None
        if order_id is None and client_order_id is not None:
            named = self._named.get((account, symbol, client_order_id))
            order = named[-1] if named else None
        if order is None or order.account != account or order.symbol != symbol:
            raise Refusal(RefusalCode.ORDER_UNKNOWN, f"no order {order_id or client_order_id} in {symbol}")
        return order
