"""The page's markets: which feed, whose money, how far it can be trusted, and the newest prices.

In: the board, the mode, the wall clock's now. Out: rows of text. Never: a price without its age, a feed said to be live
that nobody called live.
"""

import msgspec

from services.dashboard.core.board import Board, Ticker
from services.dashboard.core.words import NOTHING, age, price
from shared.config import Mode
from shared.messages import FeedState

TONES = {FeedState.LIVE: "good", FeedState.STALE: "warn", FeedState.FROZEN: "bad", FeedState.ENDED: ""}
# Market data repeats itself every second; after this long it is silent.
STATUS_LATE_NS = 5_000_000_000


class MarketRow(msgspec.Struct, frozen=True):
    """Show one market; `moved` is the tone of the last change of its price."""

    market: str
    tone: str
    state: str
    reason: str
    bid: str
    ask: str
    last: str
    moved: str
    heard: str


def money_words(mode: str, venue: str) -> str:
    """Say in a few words where prices come from, where orders go and whose money it is."""
    match mode:
        case Mode.SANDBOX:
            return f"{venue} sandbox exchange, no real money"
        case Mode.PAPER:
            return f"{venue}, real prices, paper money"
        case Mode.LIVE:
            return f"{venue}, REAL MONEY"
        case _:
            return "replayed or made-up market, paper money"


def feed_words(board: Board, now_ns: int, *, is_wire: bool) -> tuple[str, str]:
    """Return how the venue's feed does, and its tone."""
    status = board.market_status
    if status is None:
        return "the feed was not heard of", "warn"
    if is_wire and now_ns - status.ts_event_ns > STATUS_LATE_NS:
        return f"market data is silent for {age(now_ns - status.ts_event_ns)}", "bad"
    return status.reason or status.state.value, TONES[status.state]


def market_rows(board: Board, now_ns: int, *, is_wire: bool) -> list[MarketRow]:
    """Return every market of the stack, also those that nothing was heard of."""
    names = list(board.markets) + sorted({*board.tickers, *board.feeds} - set(board.markets))
    _, feed_tone = feed_words(board, now_ns, is_wire=is_wire)
    return [_row(board, name, now_ns, is_wire=is_wire, is_silent=feed_tone == "bad") for name in names]


def _row(board: Board, name: str, now_ns: int, *, is_wire: bool, is_silent: bool) -> MarketRow:
    ticker = board.tickers.get(name, Ticker())
    state, tone, reason = _state(board, name)
    if is_wire and is_silent and state == FeedState.LIVE:
        state, tone, reason = "not known", "warn", "market data is silent"
    heard_ns = max(ticker.quoted_at_ns, ticker.traded_at_ns)
    return MarketRow(
        market=name,
        tone=tone,
        state=state,
        reason=reason,
        bid=price(ticker.bid),
        ask=price(ticker.ask),
        last=price(ticker.last),
        moved={1: "up", -1: "down"}.get(ticker.moved, ""),
        heard=NOTHING if not heard_ns or not is_wire else f"{age(now_ns - heard_ns)} ago",
    )


def _state(board: Board, name: str) -> tuple[str, str, str]:
    own, whole = board.feeds.get(name), board.market_status
    if own is not None:
        return own.state.value, TONES[own.state], own.reason
    if whole is not None and whole.state is FeedState.LIVE and name in board.tickers:
        return whole.state.value, TONES[whole.state], whole.reason
    return "not heard of", "warn", ""
