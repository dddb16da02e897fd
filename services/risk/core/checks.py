"""The gate: every check in order, the first refusal counts, and what passes all of them is bound and approved."""

from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import msgspec

from services.risk.core.checks_account import check_balance, check_position, check_reserve
from services.risk.core.checks_flow import check_duplicate, check_open_orders, check_rate, check_self_match
from services.risk.core.checks_order import (
    check_collar,
    check_expiry,
    check_form,
    check_instrument,
    check_precision,
    check_price,
    check_size,
    check_trading_state,
)
from services.risk.core.exposure import exposure_of
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal
from services.risk.core.view import ApprovedOrder, View
from shared.messages import OrderApproved, OrderIntent, Side, TradingState

Check = Callable[[OrderIntent, View, Limits], Refusal | None]

# These need no account, except `check_trading_state` for a sell while REDUCING.
CHECKS_OF_THE_ORDER: tuple[Check, ...] = (
    check_form,
    check_trading_state,
    check_instrument,
    check_expiry,
    check_price,
    check_precision,
    check_collar,
    check_size,
)
CHECKS: tuple[Check, ...] = (
    *CHECKS_OF_THE_ORDER,
    check_balance,
    check_reserve,
    check_position,
    check_self_match,
    check_duplicate,
    check_open_orders,
    check_rate,
)

# Products of two sane amounts and a share need fewer digits; a quotient keeps enough to round the right way.
ENOUGH_DIGITS = Context(prec=120)


class Approval(msgspec.Struct, frozen=True):
    """Approve: the message to send, and what to remember until the order has ended."""

    message: OrderApproved
    order: ApprovedOrder


def judge(intent: OrderIntent, view: View, limits: Limits) -> Approval | Refusal:
    """Return the approval that binds what was checked, or the first refusal. Deterministic in its arguments."""
    with localcontext(ENOUGH_DIGITS):
        for check in CHECKS:
            refusal = check(intent, view, limits)
            if refusal is not None:
                return refusal
        return _approve(intent, view, limits)


def judge_without_account(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Return the refusal that no account could change, or None when the verdict needs the account."""
    if view.state is TradingState.REDUCING and intent.side is Side.SELL:
        return None
    with localcontext(ENOUGH_DIGITS):
        for check in CHECKS_OF_THE_ORDER:
            refusal = check(intent, view, limits)
            if refusal is not None:
                return refusal
    return None


def _approve(intent: OrderIntent, view: View, limits: Limits) -> Approval | Refusal:
    worst = exposure_of(intent, view, limits)
    if isinstance(worst, Refusal):
        return worst
    instrument = view.instrument
    if instrument is None:
        raise AssertionError("an exposure needs an instrument")
    message = OrderApproved(
        intent=intent,
        approval_id=f"approval-{intent.intent_id}",
        quantity_max=worst.quantity_max,
        notional_max_usdt=worst.notional_max,
        price_bound=worst.bound,
        approved_at_ns=view.now_ns,
        expires_at_ns=intent.expires_at_ns,
    )
    return Approval(message, remembered(message, instrument.base, limits.quote_fee_rate))


def remembered(message: OrderApproved, base: str, quote_fee_rate: Decimal) -> ApprovedOrder:
    """Return what to remember of an approval, until its order has ended."""
    intent = message.intent
    return ApprovedOrder(
        intent_id=intent.intent_id,
        strategy=intent.strategy,
        correlation_id=intent.correlation_id,
        instrument=intent.instrument,
        base=base,
        side=intent.side,
        type=intent.type,
        quantity=intent.quantity,
        quote_amount=intent.quote_amount,
        limit_price=intent.limit_price,
        price_bound=message.price_bound,
        quantity_max=message.quantity_max,
        quote_fee_rate=quote_fee_rate,
        approved_at_ns=message.approved_at_ns,
    )
