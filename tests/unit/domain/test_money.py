from decimal import Decimal, Inexact, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.money import add, money_of, multiply, plain, prorate, quotient, subtract, total
from shared.errors import InputError

AMOUNTS = st.decimals(min_value=0, max_value=10**12, places=18)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_price_that_is_no_number_never_becomes_money(value: float) -> None:
    with pytest.raises(InputError):
        money_of(value)


def test_a_float_becomes_the_decimal_it_is_written_as() -> None:
    assert money_of(0.1) == Decimal("0.1")
    assert money_of(1e-9) == Decimal("0.000000001")


def test_arithmetic_does_not_follow_the_callers_context() -> None:
    with localcontext(prec=3):
        assert add(Decimal("123456.789"), Decimal("0.0000001")) == Decimal("123456.7890001")
        assert multiply(Decimal("123456.789"), Decimal("1.000001")) == Decimal("123456.912456789")


def test_an_inexact_result_raises_instead_of_rounding() -> None:
    with pytest.raises(Inexact):
        multiply(Decimal("1." + "3" * 80), Decimal("1." + "7" * 80))


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_split_loses_nothing(amount: Decimal, one: Decimal, other: Decimal) -> None:
    whole = add(one, other)
    if whole:
        part = prorate(amount, one, whole)
        assert 0 <= part <= amount
        assert add(part, subtract(amount, part)) == amount


def test_a_split_that_takes_the_whole_takes_every_digit() -> None:
    amount = Decimal("1.0000000000000000000000001")
    assert prorate(amount, Decimal(3), Decimal(3)) == amount


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=12))
def test_plain_text_is_the_same_for_equal_amounts(amount: Decimal) -> None:
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == plain(amount.quantize(Decimal("1E-15")))


def test_totals_and_quotients() -> None:
    assert total([Decimal("0.1")] * 3) == Decimal("0.3")
    assert quotient(Decimal(1), Decimal(3)) == Decimal("0." + "3" * 18)
