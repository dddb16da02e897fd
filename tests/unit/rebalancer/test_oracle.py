"""300 known answers: every trigger and, where given, every leg."""

import json
from decimal import Decimal

import pytest

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Plan, Portfolio, plan_for
from shared.testing.data import data_file

RULES = RebalanceConfig(position_limit=Decimal(1), usdt_buffer=Decimal(0))


def load(line: str) -> tuple[dict, Portfolio]:
    case = json.loads(line, parse_float=Decimal, parse_int=Decimal)
    elapsed = {asset: minutes * 60_000_000_000 for asset, minutes in case["minutes_since_rebalance"].items()}
    return case, Portfolio(tuple(case["prices"]), case["prices"], case["quantities"], case["usdt"], elapsed)


def assert_same(case: dict, plan: Plan) -> None:
    expected = case["trigger"]
    if expected is None:
        assert plan.trigger is None
        assert plan.legs == ()
    else:
        assert plan.trigger is not None
        assert (plan.trigger.asset, plan.trigger.direction) == (expected["asset"], expected["direction"])
        assert float(plan.trigger.deviation) == pytest.approx(float(expected["deviation"]), rel=1e-12)
    if "legs" in case:
        got = [(leg.asset, leg.side, pytest.approx(float(leg.notional_usdt), rel=1e-12)) for leg in plan.legs]
        assert [(leg["asset"], leg["side"], float(leg["notional_usdt"])) for leg in case["legs"]] == got


def test_all_300_known_answers_match() -> None:
    lines = data_file("oracles/cascade/plans.jsonl").read_text().splitlines()
    assert len(lines) == 300
    for line in lines:
        case, portfolio = load(line)
        assert_same(case, plan_for(portfolio, RULES))


def test_leg_quantity_times_price_is_its_notional() -> None:
    for line in data_file("oracles/cascade/plans.jsonl").read_text().splitlines():
        _, portfolio = load(line)
        for leg in plan_for(portfolio, RULES).legs:
            worth = float(leg.quantity * portfolio.prices[leg.asset])
            assert worth == pytest.approx(float(leg.notional_usdt), rel=1e-12)
