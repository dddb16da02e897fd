"""Checks of the order itself: its form, its time, the trading state, its market's data, grid, size and price.

Each is pure and fails closed: at the limit passes, one tick over refuses, what is missing or NaN refuses.
"""

import re
from decimal import Decimal

from services.risk.core.exposure import amounts_are_sane, exposure_of, market_of
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal, refuse
from services.risk.core.view import View
from shared.clock import NANOSECONDS_PER_SECOND
from shared.domain.instruments import floor_to_grid
from shared.messages import FeedState, OrderIntent, OrderType, RefusalCode, Side, TimeInForce, TradingState

TIME_MAX_NS = 2**63 - 1
TEXT_LENGTH_MAX = 4_096
# Clocks of a venue and of this machine may differ by so much before a time counts as wrong.
CLOCK_SKEW_MAX_NS = 5 * NANOSECONDS_PER_SECOND
_INTENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=-]{0,127}")
_TOKEN = re.compile(r"\w[\w:/+=-]{0,127}")


def is_intent_id(text: str) -> bool:
    """Tell whether `text` can be an intent's id: short, plain, safe in a message header."""
    return _INTENT_ID.fullmatch(text) is not None


def check_form(intent: OrderIntent, view: View, _limits: Limits) -> Refusal | None:
    """Refuse an intent that contradicts itself or carries what no order can carry."""
    if not is_intent_id(intent.intent_id) or not (
        _TOKEN.fullmatch(intent.strategy) and _TOKEN.fullmatch(intent.instrument)
    ):
        return refuse(RefusalCode.INTENT_MALFORMED, "intent_id, strategy and instrument must be short plain words")
    if len(intent.correlation_id) > TEXT_LENGTH_MAX or len(intent.reason) > TEXT_LENGTH_MAX:
        return refuse(RefusalCode.INTENT_MALFORMED, f"texts must not exceed {TEXT_LENGTH_MAX} characters")
    if not amounts_are_sane(intent):
        return refuse(RefusalCode.INTENT_MALFORMED, "an amount or price is no positive number of a sane size")
    if (intent.quantity is None) == (intent.quote_amount is None):
        return refuse(RefusalCode.INTENT_MALFORMED, "exactly one of quantity and quote_amount must be set")
    if (intent.type is OrderType.LIMIT) != (intent.limit_price is not None):
        return refuse(RefusalCode.INTENT_MALFORMED, "limit_price must be set for limit orders and only for them")
    if intent.type is OrderType.LIMIT and intent.quantity is None:
        return refuse(RefusalCode.INTENT_MALFORMED, "a limit order needs a quantity, not a quote amount")
    if intent.type is OrderType.MARKET and intent.time_in_force is TimeInForce.POST_ONLY:
        return refuse(RefusalCode.INTENT_MALFORMED, "a market order cannot be post-only")
    if not 0 <= intent.decided_at_ns <= intent.expires_at_ns <= TIME_MAX_NS:
        return refuse(
            RefusalCode.INTENT_MALFORMED,
            "decided_at_ns must not be negative nor after expires_at_ns",
            decided_at_ns=intent.decided_at_ns,
            expires_at_ns=intent.expires_at_ns,
        )
    if intent.decided_at_ns > view.now_ns:
        return refuse(
            RefusalCode.INTENT_MALFORMED,
            "decided at a time that the market has not reached",
            decided_at_ns=intent.decided_at_ns,
            now_ns=view.now_ns,
        )
    return None


def check_trading_state(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse everything while HALTED, and all but sells of what is held and free while REDUCING."""
    if view.state is TradingState.ACTIVE:
        return None
    if view.state is not TradingState.REDUCING:
        return refuse(RefusalCode.TRADING_HALTED, "trading is halted until an operator resumes it")
    if intent.side is Side.BUY:
        return refuse(RefusalCode.TRADING_REDUCING, "only what reduces exposure may be sent, a buy adds to it")
    worst = exposure_of(intent, view, limits)
    if isinstance(worst, Refusal):
        return worst
    base = view.instrument.base if view.instrument is not None else ""
    free = view.available(base, view.reserved_base(base), is_exclusive=limits.is_exclusive)
    if free is None or not free.is_finite() or worst.given > free:
        return refuse(
            RefusalCode.TRADING_REDUCING, f"only held {base} may be sold", quantity=worst.given, available=free
        )
    return None


def check_instrument(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse an instrument that is not defined, is another one, or is frozen."""
    if view.instrument is None:
        return refuse(RefusalCode.INSTRUMENT_UNKNOWN, f"no definition of {intent.instrument} was seen")
    if view.instrument.symbol != intent.instrument or view.instrument.quote != limits.quote_asset:
        return refuse(RefusalCode.INSTRUMENT_UNKNOWN, f"{intent.instrument} is no market in {limits.quote_asset}")
    if view.feed is FeedState.FROZEN:
        return refuse(RefusalCode.INSTRUMENT_FROZEN, _because(f"{intent.instrument} is frozen", view))
    return None


def check_expiry(intent: OrderIntent, view: View, _limits: Limits) -> Refusal | None:
    """Refuse what the strategy itself no longer wants."""
    if view.now_ns > intent.expires_at_ns:
        return refuse(RefusalCode.INTENT_EXPIRED, "expired", now_ns=view.now_ns, expires_at_ns=intent.expires_at_ns)
    return None


def check_price(_intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse without a price that can be trusted: missing, no number, from the future, too old, of a stale feed."""
    market = market_of(view, limits)
    if isinstance(market, Refusal):
        return market
    price_ns = view.price.at_ns if view.price is not None else TIME_MAX_NS
    age_ns = view.now_ns - price_ns
    if age_ns < -CLOCK_SKEW_MAX_NS or age_ns > limits.stale_after_ns:
        return refuse(
            RefusalCode.DATA_STALE, "the last close is too old", age_ns=age_ns, stale_after_ns=limits.stale_after_ns
        )
    if view.feed is FeedState.STALE:
        return refuse(RefusalCode.DATA_STALE, _because("the feed says that it is stale", view))
    return None


def _because(what: str, view: View) -> str:
    return f"{what}: {view.feed_reason}" if view.feed_reason else what


def check_precision(intent: OrderIntent, view: View, _limits: Limits) -> Refusal | None:
    """Refuse a quantity or limit price off the instrument's grid."""
    instrument = view.instrument
    if instrument is None:
        return refuse(RefusalCode.INSTRUMENT_UNKNOWN, f"no definition of {intent.instrument} was seen")
    if not amounts_are_sane(intent):
        return refuse(RefusalCode.INTENT_MALFORMED, "an amount or price is no positive number of a sane size")
    for name, value, grid in (
        ("quantity", intent.quantity, instrument.step_size),
        ("limit_price", intent.limit_price, instrument.tick_size),
    ):
        if value is not None and value % grid != 0:
            return refuse(
                RefusalCode.PRECISION, f"{name} {value} is no multiple of {grid}", **{name: value, "grid": grid}
            )
    return None


def check_size(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse what is too small for the venue, or too small or too large for the limits."""
    worst = exposure_of(intent, view, limits)
    instrument = view.instrument
    if isinstance(worst, Refusal):
        return worst
    if instrument is None:
        return refuse(RefusalCode.INSTRUMENT_UNKNOWN, f"no definition of {intent.instrument} was seen")
    price = intent.limit_price or worst.reference
    quantity = intent.quantity or floor_to_grid((intent.quote_amount or Decimal(0)) / price, instrument.step_size)
    if quantity <= 0 or quantity < instrument.quantity_min:
        return refuse(RefusalCode.QUANTITY_MIN, "too little", quantity=quantity, quantity_min=instrument.quantity_min)
    notional = intent.quote_amount or quantity * price
    least = max(limits.notional_min_usdt, instrument.notional_min)
    if notional < least:
        return refuse(RefusalCode.NOTIONAL_MIN, "worth too little", notional_usdt=notional, notional_min_usdt=least)
    if worst.notional_max > limits.notional_max_usdt:
        return refuse(
            RefusalCode.NOTIONAL_MAX,
            "worth too much at its worst price: see risk.notional_max_usdt",
            notional_usdt=worst.notional_max,
            notional_max_usdt=limits.notional_max_usdt,
        )
    return None


def check_collar(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse a price or bound that is too far from the last close, or from the mid where a newer one is known."""
    worst = exposure_of(intent, view, limits)
    market = market_of(view, limits)
    if isinstance(worst, Refusal):
        return worst
    if isinstance(market, Refusal):
        return market
    for name, price in (("limit_price", intent.limit_price), ("price_bound", intent.price_bound)):
        for reference in market[1]:
            if price is not None and abs(price - reference) > limits.price_collar * reference:
                return refuse(
                    RefusalCode.PRICE_COLLAR,
                    f"{name} is too far from the market: see risk.price_collar",
                    price=price,
                    reference=reference,
                    price_collar=limits.price_collar,
                )
    return None
