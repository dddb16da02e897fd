"""Exact numbers through floats, and times of any spelling."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.store.catalogue.numbers import exact_decimal, parse_numbers
from shared.store.catalogue.times import parse_times

SECOND = 1_000_000_000


def stored(texts: list[str], *, quantise: bool = False) -> list[Decimal | None]:
    numbers = parse_numbers(pa.array(texts, pa.string()), quantise=quantise)
    triples = zip(numbers.values.tolist(), numbers.exact.to_pylist(), numbers.bad.tolist(), strict=True)
    return [None if bad else exact_decimal(value, exact) for value, exact, bad in triples]


decimals = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False, places=18) | st.decimals(
    min_value=Decimal("1e-18"), max_value=Decimal("1e18"), allow_nan=False, allow_infinity=False
)


@settings(deadline=None)
@given(st.lists(decimals, min_size=1, max_size=8), st.booleans())
def test_every_decimal_comes_back_with_all_its_digits(values: list[Decimal], plain: bool) -> None:
    texts = [format(value, "f") if plain else str(value) for value in values]
    assert stored(texts) == values


@pytest.mark.parametrize(
    "text", ["4.469e-10", "1E+3", "+5.5", ".5", "7.", " 12 ", "12345678901.12345678", "9007199254740993"]
)
def test_any_way_to_write_a_number_is_exact(text: str) -> None:
    assert stored([text]) == [Decimal(text.strip())]


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-Infinity", "1e999", "0x10", "1,5", "1_000", "abc", "--1", "1e", "١٢"]
)
def test_what_is_no_number_is_bad_and_spoils_no_neighbour(text: str) -> None:
    assert stored(["1.5", text, "2.5"]) == [Decimal("1.5"), None, Decimal("2.5")]


def test_float_noise_is_rounded_away_and_counted() -> None:
    texts = ["5.330000000000001e-05", "5.2900000000000005e-05", "2697616.0709080002", "431401.97869504"]
    assert stored(texts, quantise=True) == [
        Decimal("0.0000533"), Decimal("0.0000529"), Decimal("2697616.070908"), Decimal("431401.97869504"),
    ]  # fmt: skip
    assert parse_numbers(pa.array(texts), quantise=True).noise == 3
    assert stored(texts) == [Decimal(text) for text in texts]


def test_exact_numbers_of_many_digits_are_not_taken_for_noise() -> None:
    # One of them happens to look like noise; arithmetic would have left it on nearly all.
    texts = ["1032616.517938002", *(f"10326{number}.517938231" for number in range(100, 130))]
    assert stored(texts, quantise=True) == [Decimal(text) for text in texts]


def test_only_what_floats_cannot_carry_is_kept_as_text() -> None:
    numbers = parse_numbers(pa.array(["0.1", "12345678901.12345678", "1e-9"]))
    assert numbers.exact.to_pylist() == [None, "12345678901.12345678", None]
    assert numbers.values.tolist() == [0.1, 12345678901.123457, 1e-9]


@pytest.mark.parametrize(
    ("text", "ns", "unit"),
    [
        ("1735689600", 1735689600 * SECOND, "s"), ("1735689600000", 1735689600 * SECOND, "ms"),
        ("1735689600000001", 1735689600 * SECOND + 1000, "us"), ("1735689600000000001", 1735689600 * SECOND + 1, "ns"),
        ("1735689600.5", 1735689600 * SECOND + SECOND // 2, "s"), ("1.7356896e12", 1735689600 * SECOND, "ms"),
        ("2025-01-01", 1735689600 * SECOND, "date"), ("2025-01-01 00:00:00 UTC", 1735689600 * SECOND, "date"),
        ("2025-01-01T05:30:00+05:30", 1735689600 * SECOND, "date"), ("01/31/2025", 1738281600 * SECOND, "date"),
        ("31/01/25", 1738281600 * SECOND, "date"),
    ],
)  # fmt: skip
def test_times_are_read_by_their_size_or_as_dates(text: str, ns: int, unit: str) -> None:
    times = parse_times(pa.array([text]))
    assert (times.ns.tolist(), times.bad.tolist(), times.units) == ([ns], [False], {unit: 1})


def test_a_change_of_the_unit_within_a_file_is_read_right_and_counted() -> None:
    times = parse_times(pa.array(["1735603200000", "1735689600000000"]))
    assert np.diff(times.ns).tolist() == [86_400 * SECOND]
    assert times.units == {"ms": 1, "us": 1}


@pytest.mark.parametrize("texts", [["01/04/2017"], ["13/01/2017", "01/13/2017"]])
def test_a_date_that_can_be_read_in_two_ways_is_bad(texts: list[str]) -> None:
    assert parse_times(pa.array(texts)).bad.all()


@pytest.mark.parametrize("text", ["", "0", "yesterday", "1e30", "-1735689600", "2008-01-01", "2025-02-30", "NaN"])
def test_a_time_that_no_market_had_is_bad(text: str) -> None:
    assert parse_times(pa.array([text, "1735689600"])).bad.tolist() == [True, False]
