"""Limits that cannot be left out, switched off or mistyped away (invariant I19)."""

from decimal import Decimal

import pytest

from services.risk.config import RiskConfig
from shared.config import Settings
from shared.errors import ConfigError

UPPER = (
    "notional_max_usdt",
    "price_collar",
    "stale_after_steps",
    "position_limit",
    "orders_per_second_max",
    "orders_per_minute_max",
    "open_orders_max",
)
LOWER = ("notional_min_usdt", "duplicate_window_s")
NAMES = RiskConfig.__struct_fields__
DEFAULT = RiskConfig()


def load(**values: object) -> RiskConfig:
    return Settings({"risk": dict(values)}).section("risk", RiskConfig)  # type: ignore[dict-item]


def test_the_defaults_start() -> None:
    assert load() == DEFAULT
    assert set(NAMES) == {*UPPER, *LOWER, "reserve_floor_usdt", "quote_fee_rate"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, "", "NaN", "sNaN", "inf", "-inf", "-1", "much", [], {}, True, "1e999999"])
def test_a_limit_that_is_none_or_no_number_refuses_to_start_and_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"risk.*{name}"):
        load(**{name: value})


@pytest.mark.parametrize("name", UPPER)
@pytest.mark.parametrize("factor", [100, 1_000, 10**9])
def test_an_upper_limit_that_slipped_by_powers_of_ten_is_refused(name: str, factor: int) -> None:
    with pytest.raises(ConfigError, match=name):
        load(**{name: str(Decimal(getattr(DEFAULT, name)) * factor)})


@pytest.mark.parametrize("name", [*UPPER, *LOWER])
def test_no_limit_can_be_switched_off_with_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load(**{name: "0"})


@pytest.mark.parametrize("name", LOWER)
def test_a_lower_limit_that_slipped_by_powers_of_ten_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load(**{name: str(Decimal(getattr(DEFAULT, name)) / 100)})


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_limit_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}x is no setting"):
        load(**{f"{name}x": "1"})


def test_every_message_says_how_to_fix_it() -> None:
    with pytest.raises(ConfigError, match=r"position_limit must lie from 0.0001 to 1, got 40: give a share"):
        load(position_limit="40")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"notional_min_usdt": "900", "notional_max_usdt": "800"}, "notional_min_usdt .* notional_max_usdt"),
        (
            {"orders_per_second_max": 300, "orders_per_minute_max": 200},
            "orders_per_second_max .* orders_per_minute_max",
        ),
    ],
)
def test_limits_that_contradict_each_other_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(**values)


def test_limits_are_converted_to_the_units_of_the_checks() -> None:
    limits = DEFAULT.limits("USDT", 900 * 10**9, is_exclusive=False)
    assert limits.stale_after_ns == 1_800 * 10**9
    assert limits.duplicate_window_ns == 60 * 10**9
    assert not limits.is_exclusive
