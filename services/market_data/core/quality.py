"""Judge market data before anybody sees it: `assess(state, message, limits, now_ns) -> (state, verdict)`.

In: one instrument's state, one of its messages, the time of the decision. Out: the next state, and what to do with the
message. Never: a repaired value, a jump that is traded on, a state that a bad message has moved.

One state serves all kinds of messages of an instrument. The kinds have sequences and times of their own, the last good
price is common: a quote that is ten times the last trade is as suspicious as a trade. Times are compared in one clock:
the caller's `now_ns`, which in a replay is the market's.
"""

import msgspec

from services.market_data.core import quality_checks as checks
from services.market_data.core.quality_words import Action, Finding, Limits, Verdict, verdict_of
from shared.messages import Bar, Bbo, BookSnapshot, Trade

type MarketMessage = Trade | Bbo | BookSnapshot | Bar


class Channel(msgspec.Struct, frozen=True):
    """Remember where one kind of message has got to; `ids` are the trades of the newest time."""

    sequence: int | None = None
    event_ns: int = 0
    ids: frozenset[str] = frozenset()


NEW = Channel()
# Beyond this many trades of one time the oldest are forgotten.
TRADE_IDS_MAX = 1_000


class QualityState(msgspec.Struct, frozen=True):
    """Remember an instrument: why it is frozen, its last good price, when anything good was last seen."""

    frozen: str | None = None
    price: float | None = None
    suspects: int = 0
    seen_ns: int | None = None
    trade: Channel = NEW
    quote: Channel = NEW
    book: Channel = NEW
    bar: Channel = NEW


def assess(state: QualityState, message: MarketMessage, limits: Limits, now_ns: int) -> tuple[QualityState, Verdict]:
    """Return the state after the message and the verdict on it."""
    if isinstance(message, Bar):
        return _assess_bar(state, message, limits, now_ns)
    tick = _trade_tick(state, message) if isinstance(message, Trade) else _quote_tick(state, message)
    found = tick.findings + checks.times(message.ts_event_ns, now_ns, limits, is_live=True)
    return _settle_tick(state, msgspec.structs.replace(tick, findings=found), limits, now_ns)


def begun_anew(state: QualityState) -> QualityState:
    """Return the state that ticks begin with: the last good price and the freeze, not how long ago that was."""
    return QualityState(frozen=state.frozen, price=state.price)


def release(state: QualityState) -> QualityState:
    """Return the state of an instrument that an operator has looked at: the next good price is taken as it comes."""
    return msgspec.structs.replace(state, frozen=None, price=None, suspects=0)


def assess_late(state: QualityState, trade: Trade, limits: Limits) -> tuple[QualityState, Verdict]:
    """Judge a trade that was lost and found again: it has the newest number, and an older time."""
    channel = msgspec.structs.replace(state.trade, sequence=trade.sequence)
    state, found = msgspec.structs.replace(state, trade=channel), checks.trade_values(trade)
    if state.frozen is not None:
        return state, verdict_of((*found, Finding.FROZEN), state.frozen)
    if not found and state.price is not None and checks.is_jump(state.price, trade.price, limits.jump_factor_max):
        return state, verdict_of((Finding.JUMP_SUSPECTED,), f"{trade.price!r} after {state.price!r}")
    return state, verdict_of(found)


def silence(state: QualityState, limits: Limits, now_ns: int) -> Verdict:
    """Judge a feed by the age of its last good message, whatever its socket says; nothing yet is no silence."""
    if state.seen_ns is None or now_ns - state.seen_ns <= limits.silence_ns_max:
        return verdict_of(())
    return verdict_of((Finding.STALE,), f"nothing good for {(now_ns - state.seen_ns) / 1e9:.1f} s")


class _Tick(msgspec.Struct, frozen=True):
    """Hold what a trade, a quote or a book says: which channel it moves to where, and a price."""

    kind: str
    before: Channel
    after: Channel
    findings: checks.Findings
    price: float


def _trade_tick(state: QualityState, trade: Trade) -> _Tick:
    before = state.trade
    found = checks.trade_values(trade) + _order(before, trade.sequence, trade.ts_event_ns)
    is_same_time = trade.ts_event_ns == before.event_ns
    if is_same_time and trade.trade_id in before.ids:
        found += (Finding.DUPLICATE,)
    ids = before.ids if is_same_time and len(before.ids) < TRADE_IDS_MAX else frozenset[str]()
    after = Channel(trade.sequence, trade.ts_event_ns, ids | {trade.trade_id})
    return _Tick("trade", before, after, found, trade.price)


def _quote_tick(state: QualityState, quote: Bbo | BookSnapshot) -> _Tick:
    after = Channel(quote.sequence, quote.ts_event_ns)
    if isinstance(quote, Bbo):
        found = checks.quote_values(quote) + _order(state.quote, quote.sequence, quote.ts_event_ns)
        return _Tick("quote", state.quote, after, found, (quote.bid_price + quote.ask_price) / 2.0)
    own = checks.book_values(quote)
    price = 0.0 if own else (quote.bids[0][0] + quote.asks[0][0]) / 2.0
    found = own + _order(state.book, quote.sequence, quote.ts_event_ns)
    return _Tick("book", state.book, after, found, price)


def _assess_bar(state: QualityState, bar: Bar, limits: Limits, now_ns: int) -> tuple[QualityState, Verdict]:
    channel = state.bar
    found = checks.bar_values(bar) + checks.times(bar.close_time_ns, now_ns, limits, is_live=False)
    if channel.sequence is not None and bar.close_time_ns == channel.event_ns:
        found += (Finding.DUPLICATE,)
    elif bar.open_time_ns < channel.event_ns:
        found += (Finding.OUT_OF_ORDER,)
    found += _gap(channel, bar.sequence)
    if state.frozen is not None:
        return state, verdict_of((*found, Finding.FROZEN), state.frozen)
    if not verdict_of(found).is_usable:
        return state, verdict_of(found)
    detail = _bar_jump(state.price, bar, limits)
    if detail:
        return msgspec.structs.replace(state, frozen=detail), verdict_of((*found, Finding.JUMP), detail)
    then = Channel(bar.sequence, bar.close_time_ns)
    return msgspec.structs.replace(state, bar=then, price=bar.close, suspects=0, seen_ns=now_ns), verdict_of(found)


def _bar_jump(before: float | None, bar: Bar, limits: Limits) -> str:
    if before is not None and checks.is_jump(before, bar.open, limits.jump_factor_max):
        factor = bar.open / before
        return f"opened at {bar.open!r} after {before!r}: {factor:.4g} times, at most {limits.jump_factor_max:g}"
    if checks.is_jump(bar.open, bar.close, limits.bar_factor_max):
        return (
            f"went from {bar.open!r} to {bar.close!r} in one bar: {bar.close / bar.open:.4g} times, at most "
            f"{limits.bar_factor_max:g}"
        )
    return ""


def _settle_tick(state: QualityState, tick: _Tick, limits: Limits, now_ns: int) -> tuple[QualityState, Verdict]:
    if state.frozen is not None:
        return state, verdict_of((*tick.findings, Finding.FROZEN), state.frozen)
    verdict = verdict_of(tick.findings)
    if verdict.action is Action.DROP:
        return state, verdict
    if not verdict.is_usable:
        # It was in its place, so the next one is measured against it; a time that the clock contradicts is not kept.
        is_timed = Finding.CLOCK_SKEW not in verdict.findings
        after = tick.after if is_timed else msgspec.structs.replace(tick.before, sequence=tick.after.sequence)
        return _with_channel(state, tick.kind, after), verdict
    state = _with_channel(state, tick.kind, tick.after)
    if state.price is None or not checks.is_jump(state.price, tick.price, limits.jump_factor_max):
        return msgspec.structs.replace(state, price=tick.price, suspects=0, seen_ns=now_ns), verdict
    suspects = state.suspects + 1
    detail = f"{tick.price!r} after {state.price!r}: {tick.price / state.price:.4g} times, {suspects} in a row"
    state = msgspec.structs.replace(state, suspects=suspects)
    if suspects < limits.jump_confirmations:
        return state, verdict_of((*tick.findings, Finding.JUMP_SUSPECTED), detail)
    return msgspec.structs.replace(state, frozen=detail), verdict_of((*tick.findings, Finding.JUMP), detail)


def _with_channel(state: QualityState, kind: str, channel: Channel) -> QualityState:
    if kind == "trade":
        return msgspec.structs.replace(state, trade=channel)
    if kind == "quote":
        return msgspec.structs.replace(state, quote=channel)
    return msgspec.structs.replace(state, book=channel)


def _order(channel: Channel, sequence: int, event_ns: int) -> checks.Findings:
    if channel.sequence is not None and sequence == channel.sequence:
        return (Finding.DUPLICATE,)
    if (channel.sequence is not None and sequence < channel.sequence) or event_ns < channel.event_ns:
        return (Finding.OUT_OF_ORDER,)
    return _gap(channel, sequence)


def _gap(channel: Channel, sequence: int) -> checks.Findings:
    has_gap = channel.sequence is not None and sequence > channel.sequence + 1
    return (Finding.SEQUENCE_GAP,) if has_gap else ()
