"""What every account did: its executions, and which of its orders have ended.

In: executions, ends of orders. Out: them, oldest first, and what was forgotten of them.
Never: more of an account than is kept, an execution without its order, a sum that forgetting changes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec

from services.sandbox_exchange.core.model import HOUSE, AccountTrade, Market
from services.sandbox_exchange.core.orders import OrderRecord
from shared.matching.exact import add, subtract
from shared.messages import Side

ZERO = Decimal(0)
HISTORY_MAX = 100_000
HISTORY_LEAST = 1_000


class Forgotten(msgspec.Struct):
    """Count what is no longer kept of an account; `amounts` is what it brought the account, fees taken off, by asset.

    An account's transfers, its executions and these amounts together are what it holds.
    """

    orders: int = 0
    executions: int = 0
    amounts: dict[str, Decimal] = msgspec.field(default_factory=dict)


class _Past:
    """Hold one account's executions by their number, the numbers of each order's, and its ended orders."""

    __slots__ = ("ended", "forgotten", "numbers", "trades")

    def __init__(self) -> None:
        self.trades: dict[int, AccountTrade] = {}
        self.numbers: dict[int, list[int]] = {}
        self.ended: deque[int] = deque()
        self.forgotten = Forgotten()


class History:
    """Keep `most` records of each account: ended orders, as they ended, and executions; none of the house's.

    An order is forgotten together with its executions, the longest ended first. Open orders, their executions and the
    order that ended last are kept whatever their number. `touched` holds, by number, the executions that came (None:
    went) since somebody emptied it; it is None while nobody asks.
    """

    def __init__(self, most: int = HISTORY_MAX) -> None:
        self.most = most
        self.touched: dict[int, AccountTrade | None] | None = None
        self._last_number = 0
        self._last_ending = 0
        self._past: dict[str, _Past] = {}
        self._full: set[str] = set()

    def add(self, trade: AccountTrade) -> None:
        """Take in an execution."""
        self._last_number += 1
        past = self._of(trade.account)
        past.trades[self._last_number] = trade
        past.numbers.setdefault(trade.order_id, []).append(self._last_number)
        if self.touched is not None:
            self.touched[self._last_number] = trade
        self._count(trade.account, past)

    def end(self, order: OrderRecord) -> None:
        """Take in the end of an order."""
        if order.account == HOUSE or order.ended:
            return
        self._last_ending += 1
        order.ended = self._last_ending
        past = self._of(order.account)
        past.ended.append(order.order_id)
        self._count(order.account, past)

    def trades(self, account: str) -> Sequence[AccountTrade]:
        """Return an account's executions, oldest first."""
        past = self._past.get(account)
        return () if past is None else tuple(past.trades.values())

    def numbered(self) -> Iterator[tuple[int, AccountTrade]]:
        """Yield every execution and its number."""
        for past in self._past.values():
            yield from past.trades.items()

    def executions(self) -> dict[str, list[AccountTrade]]:
        """Return the executions by account, oldest first."""
        return {name: list(past.trades.values()) for name, past in self._past.items() if past.trades}

    def forgotten(self) -> dict[str, Forgotten]:
        """Return what is no longer kept, by account; accounts of which everything is kept are absent."""
        return {name: past.forgotten for name, past in self._past.items() if past.forgotten.orders}

    def forget(self, forget_order: Callable[[int], None], markets: Mapping[str, Market]) -> None:
        """Forget what is too much, and tell `forget_order` the orders."""
        while self._full:
            past = self._past[self._full.pop()]
            while len(past.trades) + len(past.ended) > self.most and len(past.ended) > 1:
                order_id = past.ended.popleft()
                past.forgotten.orders += 1
                for number in past.numbers.pop(order_id, ()):
                    self._forget(past, number, markets)
                forget_order(order_id)

    def restore(
        self,
        orders: Sequence[OrderRecord],
        trades: Mapping[str, Sequence[AccountTrade]],
        forgotten: Mapping[str, Forgotten],
    ) -> None:
        """Become a saved history; orders that were saved without the number of their end ended as they changed."""
        self._past.clear()
        self._full.clear()
        self._last_number = self._last_ending = 0
        for account in sorted(trades):
            for trade in trades[account]:
                self.add(trade)
        ended = [one for one in orders if one.account != HOUSE and not one.status.is_open]
        is_numbered = all(one.ended for one in ended)
        ended.sort(key=lambda one: (one.ended, one.order_id) if is_numbered else (one.updated_ns, one.order_id))
        for one in ended:
            number, one.ended = one.ended, 0
            self._last_ending = number - 1 if is_numbered else self._last_ending
            self.end(one)
        for account, what in forgotten.items():
            self._of(account).forgotten = what

    def _forget(self, past: _Past, number: int, markets: Mapping[str, Market]) -> None:
        trade, amounts = past.trades.pop(number), past.forgotten.amounts
        past.forgotten.executions += 1
        instrument = markets[trade.symbol].instrument
        got, spent = (instrument.base, trade.quantity), (instrument.quote, trade.quote_quantity)
        if trade.side is Side.SELL:
            got, spent = spent, got
        amounts[got[0]] = add(amounts.get(got[0], ZERO), got[1])
        for asset, amount in (spent, (trade.fee_asset, trade.fee)):
            amounts[asset] = subtract(amounts.get(asset, ZERO), amount)
        if self.touched is not None:
            self.touched[number] = None

    def _of(self, account: str) -> _Past:
        past = self._past.get(account)
        if past is None:
            past = self._past[account] = _Past()
        return past

    def _count(self, account: str, past: _Past) -> None:
        if len(past.trades) + len(past.ended) > self.most:
            self._full.add(account)
