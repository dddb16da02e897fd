"""What the page shows, folded from messages.

In: messages in any order, some twice, some missing. Out: the newest truth about account, orders, decisions, services.
Never: I/O, a clock, an unbounded list, a value that no message carried.
"""

from collections import OrderedDict, deque
from decimal import Decimal

import msgspec

from shared.messages import (
    AccountSnapshot,
    AnyMessage,
    Bar,
    BarsClosed,
    Bbo,
    DecisionRecord,
    Heartbeat,
    MarketStatus,
    OrderEvent,
    OrderRefused,
    RiskState,
    TradeBatch,
)

QUIET_ACTIONS = frozenset({"none", "wait"})
REFUSALS_MAX = 40


class EquityPoint(msgspec.Struct, frozen=True):
    """State the account's equity (quote units) at market time `at_ns`."""

    at_ns: int
    equity: Decimal


class Ticker(msgspec.Struct):
    """Hold a market's newest prices, each with its time; `moved` is the sign of the last change of price."""

    bid: float | None = None
    ask: float | None = None
    quoted_at_ns: int = 0
    last: float | None = None
    traded_at_ns: int = 0
    moved: int = 0


class Board:
    """Hold the newest truth; `version` rises with every change that a page could show."""

    def __init__(
        self,
        *,
        venue: str,
        equity_points_max: int,
        decisions_max: int,
        markets: tuple[str, ...] = (),
        also: tuple[str, ...] = (),
    ) -> None:
        self.venue = venue
        self.also = also  # services of this stack that not every stack has
        self.markets = markets
        self.version = 0
        self.account: AccountSnapshot | None = None
        self.equity: list[EquityPoint] = []
        self.start_equity: Decimal | None = None
        self.peak_equity = Decimal(0)
        self.drawdown: Decimal | None = None
        self.decisions: deque[DecisionRecord] = deque(maxlen=decisions_max)
        self.last_look: DecisionRecord | None = None
        self.orders: OrderedDict[str, OrderEvent] = OrderedDict()
        self.refusals: deque[OrderRefused] = deque(maxlen=REFUSALS_MAX)
        self.services: dict[tuple[str, str], Heartbeat] = {}
        self.trading: RiskState | None = None
        self.market: BarsClosed | None = None
        self.market_status: MarketStatus | None = None
        self.feeds: dict[str, MarketStatus] = {}
        self.tickers: dict[str, Ticker] = {}
        self._equity_points_max = equity_points_max
        self._seen_decisions: deque[str] = deque(maxlen=4 * decisions_max)

    def apply(self, message: AnyMessage) -> None:
        """Fold one message in; what is older than what is shown, or seen before, changes nothing."""
        match message:
            case AccountSnapshot():
                self._apply_account(message)
            case DecisionRecord():
                self._apply_decision(message)
            case OrderEvent():
                self._apply_order(message)
            case OrderRefused():
                self.refusals.appendleft(message)
            case Heartbeat():
                self.services[message.service, message.instance] = message
            case RiskState():
                if self.trading is None or message.changed_at_ns >= self.trading.changed_at_ns:
                    self.trading = message
            case BarsClosed():
                if self.market is None or message.close_time_ns > self.market.close_time_ns:
                    self.market = message
            case Bar():
                self._move(message.instrument, message.close, message.close_time_ns)
            case Bbo():
                if (ticker := self._ticker(message.instrument)).quoted_at_ns <= message.ts_event_ns:
                    ticker.bid, ticker.ask = message.bid_price, message.ask_price
                    ticker.quoted_at_ns = message.ts_event_ns
            case TradeBatch():
                for price, at_ns in zip(message.reals("price"), message.integers("ts_event_ns"), strict=True):
                    self._move(message.instrument, price, at_ns)
            case MarketStatus(instrument=None):
                self.market_status = message
            case MarketStatus(instrument=str(name)):
                self.feeds[name] = message
            case _:
                return
        self.version += 1

    def open_orders(self) -> list[OrderEvent]:
        """Return the orders that the venue may still act on, newest first."""
        return [event for event in reversed(self.orders.values()) if not event.state.is_terminal]

    def _ticker(self, instrument: str) -> Ticker:
        return self.tickers.setdefault(instrument, Ticker())

    def _move(self, instrument: str, price: float, at_ns: int) -> None:
        ticker = self._ticker(instrument)
        if at_ns < ticker.traded_at_ns:
            return
        if ticker.last is not None and price != ticker.last:
            ticker.moved = 1 if price > ticker.last else -1
        ticker.last, ticker.traded_at_ns = price, at_ns

    def past_orders(self) -> list[OrderEvent]:
        """Return the orders that are over, newest first."""
        return [event for event in reversed(self.orders.values()) if event.state.is_terminal]

    def _apply_account(self, snapshot: AccountSnapshot) -> None:
        current = self.account
        order = (snapshot.as_of_ns, snapshot.ledger_sequence)
        if current is not None and order < (current.as_of_ns, current.ledger_sequence):
            return
        self.account = snapshot
        if snapshot.equity_usdt is None or snapshot.as_of_ns == 0:
            return  # before the first market step there is no time to place it at
        self._measure(snapshot.equity_usdt)
        point = EquityPoint(at_ns=snapshot.as_of_ns, equity=snapshot.equity_usdt)
        if self.equity and self.equity[-1].at_ns == point.at_ns:
            self.equity[-1] = point
        else:
            self.equity.append(point)
        if len(self.equity) > self._equity_points_max:
            # Half the detail over the whole history; the first and the newest point always stay.
            self.equity = [self.equity[0], *self.equity[:0:-2][::-1]]

    def _measure(self, equity: Decimal) -> None:
        """Follow the start, the peak and the deepest fall over all snapshots, also those that the curve leaves out."""
        if self.start_equity is None:
            self.start_equity = equity
        self.peak_equity = max(self.peak_equity, equity)
        if self.peak_equity > 0:
            self.drawdown = min(self.drawdown or Decimal(0), equity / self.peak_equity - 1)

    def _apply_decision(self, record: DecisionRecord) -> None:
        if record.decision_id in self._seen_decisions:
            return
        self._seen_decisions.append(record.decision_id)
        if record.action in QUIET_ACTIONS:
            self.last_look = record
        else:
            self.decisions.appendleft(record)

    def _apply_order(self, event: OrderEvent) -> None:
        known = self.orders.get(event.intent_id)
        if known is None or (event.ledger_sequence >= known.ledger_sequence and not known.state.is_terminal):
            self.orders[event.intent_id] = event
            self.orders.move_to_end(event.intent_id)
        while len(self.orders) > 500:
            oldest = next((key for key, order in self.orders.items() if order.state.is_terminal), None)
            if oldest is None:
                break
            del self.orders[oldest]
