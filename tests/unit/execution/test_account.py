from decimal import Decimal

import msgspec
import pytest

from services.execution.core.account import locked_by, snapshot
from services.execution.core.orders import Order
from shared.domain.ledger import Ledger
from shared.messages import AccountSnapshot, OrderIntent, Side
from tests.unit.execution.samples import approve, fill, intent, submitted


def ledger() -> Ledger:
    made = Ledger("USDT")
    made.book_deposit("start", Decimal(1_000), 0)
    made.book_fill("BTC-USDT", Side.BUY, fill(1, "2", price="100"))
    return made


def seen(*orders: Order, marks: dict[str, Decimal] | None = None) -> AccountSnapshot:
    return snapshot(
        ledger(),
        orders,
        {"BTC-USDT": Decimal(110)} if marks is None else marks,
        venue="paper",
        account="paper",
        as_of_ns=7,
    )


def partly(wanted: OrderIntent, quantity: str, quote: str) -> Order:
    order = submitted(approve(wanted, quantity_max=Decimal(9), price_bound=Decimal(50)))
    return msgspec.structs.replace(order, filled_quantity=Decimal(quantity), filled_quote=Decimal(quote))


@pytest.mark.parametrize(
    ("order", "locked"),
    [
        (partly(intent(quantity="2", limit="40"), "0.5", "20"), ("USDT", Decimal(60))),
        (partly(intent(quantity="2"), "0.5", "20"), ("USDT", Decimal(75))),
        (partly(intent(quote="100"), "0.5", "20"), ("USDT", Decimal(80))),
        (partly(intent(side=Side.SELL, quantity="2"), "0.5", "20"), ("BTC", Decimal("1.5"))),
        (partly(intent(side=Side.SELL, quote="100"), "0.5", "20"), ("BTC", Decimal("8.5"))),
    ],
)
def test_an_open_order_locks_what_its_rest_may_still_take(order: Order, locked: tuple[str, Decimal]) -> None:
    assert locked_by(order) == locked


def test_free_and_locked_sum_to_what_is_held_and_none_is_negative() -> None:
    buys = [submitted(approve(intent(number, quantity="5", limit="100"))) for number in (1, 2)]
    sell = submitted(approve(intent(3, side=Side.SELL, quantity="1.5", limit="120")))
    account = seen(*buys, sell)
    assert [(b.asset, b.free, b.locked) for b in account.balances] == [
        ("BTC", Decimal("0.5"), Decimal("1.5")),
        ("USDT", Decimal(0), Decimal(800)),
    ]
    assert account.open_orders == 3


def test_equity_is_cash_and_holdings_at_their_marks() -> None:
    account = seen()
    assert account.equity_usdt == 1_020
    position = account.positions[0]
    assert (position.average_price, position.mark_price, position.value_usdt) == (100, 110, 220)
    assert account.as_of_ns == 7


def test_a_holding_without_a_price_leaves_the_equity_unknown() -> None:
    account = seen(marks={"ETH-USDT": Decimal(5)})
    assert account.equity_usdt is None
    assert account.positions[0].value_usdt is None
