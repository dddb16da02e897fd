"""The order book and the matching loop, in whole ticks and lots.

In: integers only. Out: matches, best price first, oldest first at a price. Never: a crossed book, a division.
Integers were measured against Decimals in `tests/benchmarks/matching.py`; the Decimal border is `engine.py`.
"""

from bisect import bisect_left, insort
from collections import OrderedDict

import msgspec

from shared.matching.orders import SelfTradePrevention


class RestingOrder(msgspec.Struct, eq=False, gc=False):
    """Hold one order of the book; `remaining` lots are above zero while it rests."""

    order_id: str
    owner: str
    is_buy: bool
    price: int
    remaining: int


class BookSide:
    """Hold one side of the book.

    A level's key is its price for bids and minus its price for asks, so that the best key is always the last one and
    an order crosses a level exactly when the level's key is at least the order's own price under the same sign.
    """

    __slots__ = ("keys", "levels", "sign")

    def __init__(self, is_buy: bool) -> None:
        self.sign = 1 if is_buy else -1
        self.keys: list[int] = []
        self.levels: dict[int, OrderedDict[str, RestingOrder]] = {}

    def add(self, order: RestingOrder) -> None:
        """Put an order behind all others of its price."""
        key = self.sign * order.price
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = OrderedDict()
            insort(self.keys, key)
        level[order.order_id] = order

    def remove(self, order: RestingOrder) -> None:
        """Take an order out."""
        key = self.sign * order.price
        level = self.levels[key]
        del level[order.order_id]
        if not level:
            del self.levels[key]
            if self.keys[-1] == key:
                self.keys.pop()
            else:
                del self.keys[bisect_left(self.keys, key)]

    def best_price(self) -> int | None:
        """Return the best price in ticks, or None when the side is empty."""
        return self.sign * self.keys[-1] if self.keys else None


class Taker(msgspec.Struct, eq=False, gc=False):
    """Carry an incoming order through the loop: `limit` in ticks, None for market orders.

    An order by quantity has `remaining` lots; one by quote amount has a `budget` in ticks x lots instead.
    """

    order_id: str
    owner: str
    is_buy: bool
    limit: int | None
    remaining: int | None
    budget: int | None
    self_trade: SelfTradePrevention
    stopped_by_self_trade: bool = False


class Book:
    """Hold both sides and every resting order by id."""

    __slots__ = ("asks", "bids", "orders")

    def __init__(self) -> None:
        self.bids = BookSide(is_buy=True)
        self.asks = BookSide(is_buy=False)
        self.orders: dict[str, RestingOrder] = {}

    def rest(self, order: RestingOrder) -> None:
        """Put an order into the book; the caller has matched it before."""
        self.orders[order.order_id] = order
        (self.bids if order.is_buy else self.asks).add(order)

    def cancel(self, order_id: str) -> RestingOrder | None:
        """Take an order out and return it, or None when no such order rests."""
        order = self.orders.pop(order_id, None)
        if order is not None:
            (self.bids if order.is_buy else self.asks).remove(order)
        return order

    def crosses(self, is_buy: bool, limit: int) -> bool:
        """Tell whether an order at `limit` ticks would meet a resting order."""
        side = self.asks if is_buy else self.bids
        return bool(side.keys) and side.keys[-1] >= side.sign * limit

    def can_fill(self, taker: Taker) -> bool:
        """Tell whether the whole order would fill now; changes nothing."""
        side = self.asks if taker.is_buy else self.bids
        bound = None if taker.limit is None else side.sign * taker.limit
        remaining, budget = taker.remaining, taker.budget
        prevent = taker.self_trade is not SelfTradePrevention.NONE
        for key in reversed(side.keys):
            if bound is not None and key < bound:
                return False
            price = side.sign * key
            for maker in side.levels[key].values():
                wanted = budget // price if budget is not None else remaining or 0
                if not wanted:
                    return True
                if prevent and maker.owner == taker.owner:
                    if taker.self_trade is SelfTradePrevention.CANCEL_MAKER:
                        continue
                    return False
                lots = min(wanted, maker.remaining)
                if lots == wanted:
                    return True
                if budget is not None:
                    budget -= lots * price
                else:
                    remaining = wanted - lots
        return False

    def match(self, taker: Taker) -> tuple[list[tuple[RestingOrder, int]], list[RestingOrder]]:
        """Match an order against the book, changing both.

        Returns the matches `(maker, lots)` in order, and the makers that self-trade prevention took out.
        """
        side = self.asks if taker.is_buy else self.bids
        keys, levels, sign = side.keys, side.levels, side.sign
        bound = None if taker.limit is None else sign * taker.limit
        matches: list[tuple[RestingOrder, int]] = []
        removed: list[RestingOrder] = []
        while keys:
            key = keys[-1]
            if bound is not None and key < bound:
                break
            level = levels[key]
            is_done = self._match_level(taker, level, sign * key, matches, removed)
            if not level:
                del levels[keys.pop()]
            if is_done:
                break
        return matches, removed

    def _match_level(
        self,
        taker: Taker,
        level: OrderedDict[str, RestingOrder],
        price: int,
        matches: list[tuple[RestingOrder, int]],
        removed: list[RestingOrder],
    ) -> bool:
        prevent = taker.self_trade is not SelfTradePrevention.NONE
        while level:
            wanted = taker.budget // price if taker.budget is not None else taker.remaining or 0
            if not wanted:
                return True
            maker = next(iter(level.values()))
            if prevent and maker.owner == taker.owner:
                if taker.self_trade is not SelfTradePrevention.CANCEL_TAKER:
                    removed.append(maker)
                    del level[maker.order_id], self.orders[maker.order_id]
                if taker.self_trade is not SelfTradePrevention.CANCEL_MAKER:
                    taker.stopped_by_self_trade = True
                    return True
                continue
            lots = min(wanted, maker.remaining)
            matches.append((maker, lots))
            maker.remaining -= lots
            if taker.budget is not None:
                taker.budget -= lots * price
            else:
                taker.remaining = wanted - lots
            if not maker.remaining:
                del level[maker.order_id], self.orders[maker.order_id]
        return False
