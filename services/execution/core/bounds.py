"""The last look before the wire: does the approval still cover exactly this order, here and now?

In: an approval and what execution knows at this moment. Out: a denial, or None. Never: a doubt resolved in the
order's favour. Bounds are inclusive: exactly at the limit passes.
"""

from decimal import Decimal
from enum import StrEnum

import msgspec

from services.execution.core.orders import price_bound_of
from shared.domain.money import multiply, plain
from shared.messages import OrderApproved, OrderType, Side, TradingState


class DenyCode(StrEnum):
    """Name why execution did not send an approved order."""

    TRADING_HALTED = "trading_halted"
    TRADING_REDUCING = "trading_reducing"
    LEDGER_MISMATCH = "ledger_mismatch"
    UNKNOWN_OUTCOME = "unknown_outcome"
    APPROVAL_USED = "approval_used"
    APPROVAL_EXPIRED = "approval_expired"
    INTENT_EXPIRED = "intent_expired"
    MARKET_LAG = "market_lag"
    STREAM_RECONCILING = "stream_reconciling"
    QUANTITY_BOUND = "quantity_bound"
    NOTIONAL_BOUND = "notional_bound"
    PRICE_BOUND = "price_bound"
    SUBJECT_MISMATCH = "subject_mismatch"


class Denial(msgspec.Struct, frozen=True):
    """Say why an order is not sent: a code for machines, a sentence for people."""

    code: DenyCode
    detail: str

    @property
    def reason(self) -> str:
        """Return both in one text."""
        return f"{self.code.value}: {self.detail}"


class Situation(msgspec.Struct, frozen=True):
    """State what execution knows when it is about to send, at market time `now_ns`.

    `approval_used_by` is the intent that the approval served already. `halt_reason` is execution's own.
    """

    state: TradingState | None
    now_ns: int
    halt_reason: str | None = None
    approval_used_by: str | None = None
    unknown_order: str | None = None


def check(approval: OrderApproved, situation: Situation) -> Denial | None:
    """Return why the order must not be sent, or None when it may."""
    return (
        _check_state(approval, situation)
        or _check_use(approval, situation)
        or _check_time(approval, situation.now_ns)
        or _check_amounts(approval)
        or _check_price(approval)
    )


def _check_state(approval: OrderApproved, situation: Situation) -> Denial | None:
    if situation.state is None:
        return Denial(DenyCode.TRADING_HALTED, "the trading state is not known")
    if situation.state is TradingState.HALTED:
        return Denial(DenyCode.TRADING_HALTED, "trading is halted")
    if situation.state is TradingState.REDUCING and approval.intent.side is Side.BUY:
        return Denial(DenyCode.TRADING_REDUCING, "only what reduces exposure may be sent")
    if situation.halt_reason is not None:
        return Denial(DenyCode.LEDGER_MISMATCH, situation.halt_reason)
    return None


def _check_use(approval: OrderApproved, situation: Situation) -> Denial | None:
    if situation.approval_used_by is not None:
        return Denial(DenyCode.APPROVAL_USED, f"the approval served intent {situation.approval_used_by}")
    if situation.unknown_order is not None:
        detail = f"what became of {situation.unknown_order} on {approval.intent.instrument} is not known"
        return Denial(DenyCode.UNKNOWN_OUTCOME, detail)
    return None


def _check_time(approval: OrderApproved, now_ns: int) -> Denial | None:
    for code, limit_ns in (
        (DenyCode.APPROVAL_EXPIRED, approval.expires_at_ns),
        (DenyCode.INTENT_EXPIRED, approval.intent.expires_at_ns),
    ):
        if now_ns > limit_ns:
            return Denial(code, f"expired at {limit_ns}, the market is at {now_ns}")
    return None


def _check_amounts(approval: OrderApproved) -> Denial | None:
    intent = approval.intent
    if intent.quantity is not None and intent.quantity > approval.quantity_max:
        detail = f"{plain(intent.quantity)} is more than the approved {plain(approval.quantity_max)}"
        return Denial(DenyCode.QUANTITY_BOUND, detail)
    notional = _worst_notional(approval)
    if notional > approval.notional_max_usdt:
        detail = f"{plain(notional)} is more than the approved {plain(approval.notional_max_usdt)}"
        return Denial(DenyCode.NOTIONAL_BOUND, detail)
    return None


def _check_price(approval: OrderApproved) -> Denial | None:
    limit = approval.intent.limit_price
    if approval.intent.type is not OrderType.LIMIT or limit is None:
        return None
    bound = price_bound_of(approval)
    if limit > bound if approval.intent.side is Side.BUY else limit < bound:
        return Denial(DenyCode.PRICE_BOUND, f"limit {plain(limit)} is worse than the approved {plain(bound)}")
    return None


def _worst_notional(approval: OrderApproved) -> Decimal:
    intent = approval.intent
    if intent.quantity is None:
        return intent.quote_amount or Decimal(0)
    return multiply(intent.quantity, intent.limit_price or price_bound_of(approval))
