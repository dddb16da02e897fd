"""Bad rules are refused with the key's name and the fix."""

from decimal import Decimal

import msgspec
import pytest

from services.rebalancer.config import RebalanceConfig


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"upside_threshold": "-0.4"}, ["upside_threshold", "more than 0"]),
        ({"upside_threshold": "NaN"}, ["upside_threshold", "finite"]),
        ({"upside_threshold": "Infinity"}, ["upside_threshold", "finite"]),
        ({"upside_threshold": 0}, ["upside_threshold", "more than 0"]),
        ({"sell_percentage": 50}, ["sell_percentage", "0.5 for 50 %"]),
        ({"downside_threshold": 35}, ["downside_threshold", "0.35 for 35 %"]),
        ({"downside_threshold": 1}, ["downside_threshold", "less than 1"]),
        ({"usdt_reserve": 30}, ["usdt_reserve", "0.3 for 30 %"]),
        ({"usdt_reserve": "-0.01"}, ["usdt_reserve", "at least 0"]),
        ({"usdt_buffer": 1}, ["usdt_buffer", "less than 1"]),
        ({"position_limit": 0}, ["position_limit", "more than 0"]),
        ({"position_limit": "1.01"}, ["position_limit", "at most 1"]),
        ({"min_order_value": -15}, ["min_order_value", "at least 0"]),
        ({"min_order_value": "1e30"}, ["min_order_value", "sensible"]),
        ({"cooldown_minutes": -1}, ["cooldown_minutes", "at least 0"]),
        ({"fee_rate": 0.1}, ["fee_rate", "less than 0.1"]),
        ({"price_collar": 0}, ["price_collar", "more than 0"]),
        ({"intent_lifetime_s": 0}, ["intent_lifetime_s", "1 to 86400"]),
        ({"assets": ["A", "B", "A"]}, ["assets", "A twice"]),
        ({"assets": ["A", ""]}, ["assets", "name each"]),
        ({"assets": ["A"]}, ["position_limit", "equal share", "raise"]),
        ({"strategy": "a.b"}, ["strategy", "letters"]),
        ({"strategy": ""}, ["strategy"]),
        ({"sell_percent": 0.2}, ["sell_percent"]),
    ],
)
def test_bad_value_is_refused_naming_key_and_fix(changes: dict, words: list[str]) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(changes, RebalanceConfig, strict=False)
    assert [word for word in words if word not in str(refused.value)] == []


def test_direct_construction_is_checked_too_and_takes_floats_as_written() -> None:
    with pytest.raises(ValueError, match="sell_percentage"):
        RebalanceConfig(sell_percentage=50)
    with pytest.raises(ValueError, match="fee_rate must be a number"):
        RebalanceConfig(fee_rate="free")
    with pytest.raises(ValueError, match="fee_rate must be a number"):
        RebalanceConfig(fee_rate=True)
    assert RebalanceConfig(upside_threshold=0.4).upside_threshold == Decimal("0.4")
    assert RebalanceConfig(assets=["A", "B"]).assets == ("A", "B")


def test_defaults_are_the_documented_rules() -> None:
    rules = RebalanceConfig()
    assert (rules.upside_threshold, rules.downside_threshold) == (Decimal("0.40"), Decimal("0.35"))
    assert (rules.sell_percentage, rules.usdt_reserve) == (Decimal("0.20"), Decimal("0.30"))
    assert (rules.min_order_value, rules.cooldown_minutes) == (15, 30)
    assert (rules.position_limit, rules.usdt_buffer) == (Decimal("0.40"), Decimal("0.05"))
    assert rules.outperformer_sell_limit == Decimal("0.25")


def test_json_round_trip_keeps_every_digit() -> None:
    rules = RebalanceConfig(assets=("A", "B"), upside_threshold=Decimal("0.4000000000000000001"))
    assert msgspec.json.decode(msgspec.json.encode(rules), type=RebalanceConfig) == rules
