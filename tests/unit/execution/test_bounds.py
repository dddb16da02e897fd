from decimal import Decimal

import pytest

from services.execution.core.bounds import DenyCode, Situation, check
from services.execution.core.evidence import Misses
from shared.messages import OrderApproved, Side, TradingState
from tests.unit.execution.samples import HOUR_NS, approve, intent

READY = Situation(state=TradingState.ACTIVE, now_ns=HOUR_NS)
BUY = intent(quantity="2", limit="100", bound="101", expires_hour=5)
SELL = intent(side=Side.SELL, quantity="2", limit="100", bound="99", expires_hour=5)
BY_QUOTE = intent(quote="200", bound="101")
MARKET = intent(quantity="2", bound="100")


def situation(**changes: object) -> Situation:
    return Situation(**({"state": TradingState.ACTIVE, "now_ns": HOUR_NS} | changes))


@pytest.mark.parametrize(
    "approval",
    [
        approve(BUY, quantity_max=Decimal(2), notional_max_usdt=Decimal(200), price_bound=Decimal(100)),
        approve(SELL, quantity_max=Decimal(2), notional_max_usdt=Decimal(200), price_bound=Decimal(100)),
        approve(BY_QUOTE, notional_max_usdt=Decimal(200)),
        approve(MARKET, notional_max_usdt=Decimal(200), price_bound=Decimal(100)),
        approve(BUY, expires_at_ns=HOUR_NS),
    ],
)
def test_exactly_at_every_bound_passes(approval: OrderApproved) -> None:
    assert check(approval, READY) is None


@pytest.mark.parametrize(
    ("approval", "code"),
    [
        (approve(BUY, quantity_max=Decimal("1.99999999")), DenyCode.QUANTITY_BOUND),
        (approve(BUY, notional_max_usdt=Decimal("199.99999999")), DenyCode.NOTIONAL_BOUND),
        (approve(SELL, notional_max_usdt=Decimal("199.99999999")), DenyCode.NOTIONAL_BOUND),
        (approve(BY_QUOTE, notional_max_usdt=Decimal("199.99999999")), DenyCode.NOTIONAL_BOUND),
        (approve(MARKET, notional_max_usdt=Decimal("199.99999999")), DenyCode.NOTIONAL_BOUND),
        (approve(BUY, price_bound=Decimal("99.99999999")), DenyCode.PRICE_BOUND),
        (approve(SELL, price_bound=Decimal("100.00000001")), DenyCode.PRICE_BOUND),
        (approve(BUY, expires_at_ns=HOUR_NS - 1), DenyCode.APPROVAL_EXPIRED),
        (approve(intent(expires_hour=0), expires_at_ns=9 * HOUR_NS), DenyCode.INTENT_EXPIRED),
    ],
)
def test_one_step_beyond_a_bound_is_denied(approval: OrderApproved, code: DenyCode) -> None:
    denial = check(approval, READY)
    assert denial is not None
    assert denial.code is code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": None}, DenyCode.TRADING_HALTED),
        ({"state": TradingState.HALTED}, DenyCode.TRADING_HALTED),
        ({"state": TradingState.REDUCING}, DenyCode.TRADING_REDUCING),
        ({"halt_reason": "balances differ"}, DenyCode.LEDGER_MISMATCH),
        ({"approval_used_by": "intent-9"}, DenyCode.APPROVAL_USED),
        ({"unknown_order": "csc1"}, DenyCode.UNKNOWN_OUTCOME),
    ],
)
def test_a_situation_that_forbids_sending_denies(changes: dict[str, object], code: DenyCode) -> None:
    denial = check(approve(BUY), situation(**changes))
    assert denial is not None
    assert denial.code is code
    assert denial.reason.startswith(code.value)


def test_reducing_lets_sales_through() -> None:
    assert check(approve(SELL), situation(state=TradingState.REDUCING)) is None


def test_absence_is_proof_only_when_it_is_many_answers_over_time() -> None:
    second = 1_000_000_000
    many_at_once = Misses()
    for _ in range(10):
        many_at_once = many_at_once.after(5 * second)
    assert not many_at_once.are_enough(3, 30)
    few = Misses().after(0).after(60 * second)
    assert not few.are_enough(3, 30)
    assert not few.after(29 * second).are_enough(3, 30)
    assert Misses().after(0).after(1).after(30 * second).are_enough(3, 30)
