"""Checks against the account: balance net of everything approved, the reserve, the largest position.

They assume the worst interleaving: every open buy fills at its bound, and no open sell brings money first.
"""

from decimal import Decimal

from services.risk.core.exposure import Exposure, exposure_of, is_amount, is_positive_amount
from services.risk.core.limits import Limits
from services.risk.core.refusal import Refusal, refuse
from services.risk.core.view import Account, View
from shared.messages import OrderIntent, RefusalCode, Side


def check_balance(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse a buy that the free quote money does not cover, and a sell of more than is free."""
    known = _known(intent, view, limits)
    if isinstance(known, Refusal):
        return known
    _, worst, base = known
    buys = intent.side is Side.BUY
    asset, needed = (limits.quote_asset, worst.cost) if buys else (base, worst.given)
    reserved = view.reserved_quote() if buys else view.reserved_base(base)
    free = view.available(asset, reserved, is_exclusive=limits.is_exclusive)
    if free is None or not free.is_finite():
        return refuse(RefusalCode.BALANCE_UNKNOWN, f"the balance of {asset} is no number")
    if needed > free:
        return refuse(
            RefusalCode.BALANCE,
            f"not enough {asset} beside the open orders",
            needed=needed,
            available=free,
            reserved=reserved,
        )
    return None


def check_reserve(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse a buy after which less than the reserve would be left."""
    if intent.side is Side.SELL:
        return None
    known = _known(intent, view, limits)
    if isinstance(known, Refusal):
        return known
    free = view.available(limits.quote_asset, view.reserved_quote(), is_exclusive=limits.is_exclusive)
    if free is None or not free.is_finite():
        return refuse(RefusalCode.BALANCE_UNKNOWN, f"the balance of {limits.quote_asset} is no number")
    left = free - known[1].cost
    if left < limits.reserve_floor_usdt:
        return refuse(
            RefusalCode.RESERVE_FLOOR,
            "the reserve would be touched: see risk.reserve_floor_usdt",
            left_usdt=left,
            reserve_floor_usdt=limits.reserve_floor_usdt,
        )
    return None


def check_position(intent: OrderIntent, view: View, limits: Limits) -> Refusal | None:
    """Refuse a buy after which the asset, open buys included, would exceed its share of equity."""
    if intent.side is Side.SELL:
        return None
    known = _known(intent, view, limits)
    if isinstance(known, Refusal):
        return known
    account, worst, base = known
    if account.equity_usdt is None:
        return refuse(RefusalCode.PRICE_MISSING, "equity is unknown: a holding has no price")
    if not is_positive_amount(account.equity_usdt):
        return refuse(RefusalCode.BALANCE_UNKNOWN, "equity is no positive amount", equity_usdt=account.equity_usdt)
    held = account.balance(base).total * worst.reference
    open_buys = sum((order.incoming_value(worst.reference) for order in view.orders if order.base == base), Decimal(0))
    after = held + open_buys + worst.added_value
    most = limits.position_limit * account.equity_usdt
    if after > most:
        return refuse(
            RefusalCode.POSITION_LIMIT,
            f"{base} would exceed its share of the portfolio: see risk.position_limit",
            value_after_usdt=after,
            value_max_usdt=most,
            equity_usdt=account.equity_usdt,
            position_limit=limits.position_limit,
        )
    return None


def _known(intent: OrderIntent, view: View, limits: Limits) -> tuple[Account, Exposure, str] | Refusal:
    worst = exposure_of(intent, view, limits)
    if isinstance(worst, Refusal):
        return worst
    if view.account is None or view.instrument is None:
        return refuse(RefusalCode.BALANCE_UNKNOWN, "no account snapshot was seen")
    for asset in (view.instrument.base, limits.quote_asset):
        balance = view.account.balance(asset)
        if not (is_amount(balance.free) and is_amount(balance.locked)):
            return refuse(RefusalCode.BALANCE_UNKNOWN, f"the balance of {asset} is no amount", free=balance.free)
    return view.account, worst, view.instrument.base
