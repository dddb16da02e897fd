"""The whole page as one value: what the templates show and `/api/state` returns.

In: the board and the wall clock's now. Out: texts, tones and pictures. Never: a lookup that fails for lack of data.
"""

import msgspec

from services.dashboard.core.board import Board
from services.dashboard.core.chart import EquityChart, equity_chart
from services.dashboard.core.markets import MarketRow, feed_words, market_rows, money_words
from services.dashboard.core.rows import (
    AllocationRow,
    DecisionRow,
    OrderRow,
    ServiceRow,
    allocation_rows,
    decision_rows,
    last_look,
    open_order_rows,
    past_order_rows,
    service_rows,
)
from services.dashboard.core.words import NOTHING, clock, money, percent, time_of_day
from shared.config import Mode
from shared.messages import TradingState

FRAGMENTS = ("header", "equity", "markets", "allocation", "decisions", "orders", "services")
TONES = {TradingState.ACTIVE: "good", TradingState.REDUCING: "warn", TradingState.HALTED: "bad"}


class PageModel(msgspec.Struct, frozen=True):
    """Hold everything that is shown; texts are ready to print, `None` means that there is nothing yet."""

    mode: str
    venue: str
    money: str
    is_real_money: bool
    feed: str
    feed_tone: str
    has_quotes: bool
    markets: list[MarketRow]
    trading: str
    trading_tone: str
    trading_reason: str
    market_time: str
    market_step: int | None
    equity: str
    total_return: str
    return_tone: str
    drawdown: str
    fees: str
    chart: EquityChart | None
    allocation: list[AllocationRow]
    decisions: list[DecisionRow]
    last_look: DecisionRow | None
    open_orders: list[OrderRow]
    past_orders: list[OrderRow]
    services: list[ServiceRow]
    services_ready: int


def page_model(board: Board, *, now_ns: int, mode: str) -> PageModel:
    """Return the page for the board as it stands; `now_ns` (wall clock) ages the heartbeats."""
    account, trading = board.account, board.trading
    equity = account.equity_usdt if account is not None else None
    start = board.start_equity
    gain = equity / start - 1 if equity is not None and start else None
    services = service_rows(board, now_ns)
    is_wire = Mode(mode).is_wire
    feed, feed_tone = feed_words(board, now_ns, is_wire=is_wire)
    at = time_of_day if is_wire else clock
    return PageModel(
        mode=mode,
        venue=board.venue,
        money=money_words(mode, board.venue),
        is_real_money=mode == Mode.LIVE,
        feed=feed,
        feed_tone=feed_tone,
        has_quotes=is_wire,
        markets=market_rows(board, now_ns, is_wire=is_wire),
        trading=trading.state.value if trading is not None else "unknown",
        trading_tone=TONES[trading.state] if trading is not None else "warn",
        trading_reason=f"{trading.reason} ({trading.changed_by})" if trading is not None else "risk was not heard of",
        market_time=at(board.market.close_time_ns) if board.market is not None else NOTHING,
        market_step=board.market.step if board.market is not None else None,
        equity=money(equity),
        total_return=percent(gain, signed=True),
        return_tone="" if gain is None else "up" if gain >= 0 else "down",
        drawdown=percent(board.drawdown),
        fees=money(account.fees_paid_usdt if account is not None else None),
        chart=equity_chart(board.equity),
        allocation=allocation_rows(board),
        decisions=decision_rows(board, to_the_second=is_wire),
        last_look=last_look(board, to_the_second=is_wire),
        open_orders=open_order_rows(board, to_the_second=is_wire),
        past_orders=past_order_rows(board, to_the_second=is_wire),
        services=services,
        services_ready=sum(row.state == "ready" for row in services),
    )
