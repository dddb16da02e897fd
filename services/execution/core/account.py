"""The account as others see it: balances, positions and equity, from the ledger and the marks.

In: the ledger, open orders, the last closes. Out: an account snapshot. Never: a price that nobody saw, a negative
free balance, a rounded amount of money.

What the stack does not trade (a token held to pay fees from, a market that was taken out) is a balance, but no
position and no part of equity: no price of it is heard.
"""

from collections.abc import Iterable, Mapping, Set
from decimal import Decimal

from services.execution.core.orders import Order, price_bound_of
from shared.domain.instruments import split_symbol
from shared.domain.ledger import Ledger
from shared.domain.money import ZERO, add, multiply, subtract
from shared.messages import AccountSnapshot, Balance, Position, Side


def locked_by(order: Order) -> tuple[str, Decimal]:
    """Return the asset and the amount that the rest of an open order may still take, at its worst price."""
    base, quote = split_symbol(order.intent.instrument)
    intent = order.intent
    if intent.side is Side.SELL:
        wanted = intent.quantity if intent.quantity is not None else order.approval.quantity_max
        return base, max(subtract(wanted, order.filled_quantity), ZERO)
    if intent.quote_amount is not None:
        return quote, max(subtract(intent.quote_amount, order.filled_quote), ZERO)
    rest = subtract(intent.quantity or order.approval.quantity_max, order.filled_quantity)
    return quote, max(multiply(rest, intent.limit_price or price_bound_of(order.approval)), ZERO)


def snapshot(
    ledger: Ledger,
    open_orders: Iterable[Order],
    marks: Mapping[str, Decimal],
    *,
    venue: str,
    account: str,
    as_of_ns: int,
    traded: Set[str] | None = None,
) -> AccountSnapshot:
    """Return the account after the ledger's last entry, marked with `marks` (instrument -> last close).

    `traded` are the assets of the stack's markets; None for all.
    """
    orders = tuple(open_orders)
    positions = _positions(ledger, marks, traded)
    equity: Decimal | None = ledger.balance(ledger.quote_asset)
    for position in positions:
        equity = None if equity is None or position.value_usdt is None else add(equity, position.value_usdt)
    return AccountSnapshot(
        venue=venue,
        account=account,
        ledger_sequence=ledger.sequence,
        as_of_ns=as_of_ns,
        balances=_balances(ledger, orders),
        positions=positions,
        equity_usdt=equity,
        fees_paid_usdt=ledger.fees_quote,
        open_orders=len(orders),
    )


def _balances(ledger: Ledger, orders: tuple[Order, ...]) -> tuple[Balance, ...]:
    locked: dict[str, Decimal] = {}
    for order in orders:
        asset, amount = locked_by(order)
        locked[asset] = add(locked.get(asset, ZERO), amount)
    balances = []
    for asset, held in ledger.balances().items():
        # Two orders may both promise the same money; more than all of it cannot be locked.
        reserved = min(locked.get(asset, ZERO), held)
        balances.append(Balance(asset, subtract(held, reserved), reserved))
    return tuple(balances)


def _positions(ledger: Ledger, marks: Mapping[str, Decimal], traded: Set[str] | None) -> tuple[Position, ...]:
    positions = []
    for asset, holding in ledger.holdings().items():
        if traded is not None and asset not in traded:
            continue
        instrument = f"{asset}-{ledger.quote_asset}"
        mark = marks.get(instrument)
        value = ZERO if not holding.quantity else None if mark is None else multiply(holding.quantity, mark)
        positions.append(
            Position(
                instrument=instrument,
                quantity=holding.quantity,
                average_price=holding.average_price,
                mark_price=mark,
                value_usdt=value,
                realized_pnl_usdt=holding.realized,
            )
        )
    return tuple(positions)
