"""Taking the venue's balances over into the ledger, because a person says that the difference came from outside.

In: an operator's word, the venue's balances. Out: transfers in the ledger, one for each asset that differs.
Never: a transfer while an order or its outcome may explain the difference; a price invented for what came.
"""

from decimal import Decimal

from services.execution.balances import Difference
from services.execution.desk import Desk
from services.execution.recovery import Findings, Recovery
from shared.domain.money import plain, subtract
from shared.messages import TradingState


class NotNowError(Exception):
    """Say why the balances cannot be taken over now, and what to do first."""


async def adopt(desk: Desk, recovery: Recovery, reference: str) -> tuple[list[Difference], Findings]:
    """Book every difference as a transfer and reconcile; the caller has the turn. The same reference books once.

    Raises NotNowError while trading is not halted, orders are open, or an asset has no price.
    """
    books = desk.books
    if desk.state is not TradingState.HALTED:
        raise NotNowError("trading is not halted: `cascade halt` first, so that no fill comes in between")
    if not desk.is_stream_live:
        raise NotNowError("the account's stream is down: wait until `cascade status` calls it reconciled")
    differences = await recovery.settle_by_operator()
    if open_orders := books.open_orders():
        raise NotNowError(f"{len(open_orders)} orders are open, their fills may explain it: wait, or cancel them")
    quote, marks = books.ledger.quote_asset, books.marks()
    changes: dict[str, tuple[Decimal, Decimal]] = {}
    for one in differences:
        price = Decimal(1) if one.asset == quote else marks.get(f"{one.asset}-{quote}")
        if price is None and one.asset in books.fee_assets:
            price = await recovery.worth(one.asset)
        if price is None:
            raise NotNowError(f"{one.asset} has no price yet: wait for its next bar")
        changes[one.asset] = (subtract(one.held, one.booked), price)
    books.adopt(reference, changes, desk.now_ns())
    for one in differences:
        desk.log.warning("balance_adopted", asset=one.asset, held=plain(one.held), booked=plain(one.booked))
    return differences, await recovery.run()
