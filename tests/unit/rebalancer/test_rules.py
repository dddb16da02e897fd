"""The rules, case by case, with numbers that a person can check."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Direction, Plan, Portfolio, plan_for
from shared.messages import Side

D = Decimal
PLAIN = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), fee_rate=D(0))
Build = Callable[..., Portfolio]


def legs(plan: Plan) -> list[tuple[str, str, Decimal]]:
    return [(leg.asset, leg.side.value, leg.notional_usdt) for leg in plan.legs]


def test_nothing_happens_inside_the_band_and_the_farthest_is_named(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 1100, "B": 900, "C": 1000}, 500), PLAIN)
    assert plan.trigger is None
    assert plan.legs == ()
    # -10 % of -35 % is farther than +10 % of +40 %.
    assert plan.notes == ("farthest: B -10.0 % of -35.0 %",)


@pytest.mark.parametrize(
    ("values", "fires"),
    [
        # Mean 100: exactly +40 % is quiet, the last of 28 digits more fires.
        ({"A": "140", "B": "60"}, None),
        ({"A": "140.0000000000000000000000001", "B": "59.9999999999999999999999999"}, "A"),
        ({"A": "139.9999999999999999999999999", "B": "60.0000000000000000000000001"}, None),
    ],
)
def test_upside_fires_strictly_beyond_the_threshold(portfolio: Build, values: dict, fires: str | None) -> None:
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), downside_threshold=D("0.9"))
    plan = plan_for(portfolio(values), rules)
    assert (plan.trigger.asset if plan.trigger else None) == fires


@pytest.mark.parametrize(
    ("low", "high", "fires"),
    [("65", "135", None), ("64.9999999999999999999999999", "135.0000000000000000000000001", "A")],
)
def test_downside_fires_strictly_beyond_the_threshold(portfolio: Build, low: str, high: str, fires: str | None) -> None:
    plan = plan_for(portfolio({"A": low, "B": high}), PLAIN)
    assert (plan.trigger.asset if plan.trigger else None) == fires


def test_boundary_is_exact_where_the_mean_has_no_finite_decimal(portfolio: Build) -> None:
    # Sum 3, mean 1/… : A = 1.4 with B + C = 1.6 is exactly +40 %.
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), downside_threshold=D("0.9"))
    assert plan_for(portfolio({"A": "1400", "B": "1000", "C": "600"}), rules).trigger is None
    third = RebalanceConfig(
        position_limit=D(1), usdt_buffer=D(0), upside_threshold=D("0.2"), downside_threshold=D("0.9")
    )
    # Sum 10, mean 10/3, A = 4 is exactly 1.2 x 10/3, which no decimal holds.
    assert plan_for(portfolio({"A": 4000, "B": 3000, "C": 3000}), third).trigger is None
    assert plan_for(portfolio({"A": "4000.000000000001", "B": 3000, "C": 3000}), third).trigger is not None


def test_upside_sells_a_fifth_keeps_30_percent_and_spreads_the_rest(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 2000, "B": 1000, "C": 1000}), PLAIN)
    assert plan.trigger is not None
    assert (plan.trigger.asset, plan.trigger.direction, plan.trigger.deviation) == ("A", Direction.UPSIDE, D("0.5"))
    assert legs(plan) == [("A", "sell", D(400)), ("B", "buy", D(140)), ("C", "buy", D(140))]
    assert "20.0 % of A" in plan.sells[0].reason
    assert "+50.0 %" in plan.sells[0].reason


def test_upside_spreads_net_proceeds(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), fee_rate=D("0.01"))
    plan = plan_for(portfolio({"A": 2000, "B": 1000, "C": 1000}), rules)
    assert legs(plan) == [("A", "sell", D(400)), ("B", "buy", D("138.6")), ("C", "buy", D("138.6"))]


def test_legs_under_the_minimum_are_skipped_and_their_money_stays_usdt(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 200, "B": 100, "C": 100}), PLAIN)
    assert legs(plan) == [("A", "sell", D(40))]
    assert [skip.asset for skip in plan.skipped] == ["B", "C"]
    assert "14.00 USDT is under the minimum order of 15.00 USDT; its money stays USDT" in plan.skipped[0].reason
    exact = plan_for(
        portfolio({"A": 200, "B": 100, "C": 100}),
        RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), fee_rate=D(0), min_order_value=D(14)),
    )
    assert len(exact.buys) == 2


def test_plan_without_any_leg_still_names_its_trigger(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 60, "B": 30, "C": 30}), PLAIN)
    assert plan.trigger is not None
    assert plan.legs == ()
    assert "sell of A skipped: 12.00 USDT" in plan.skipped[0].reason


def test_downside_buys_back_to_the_mean_from_usdt(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 400, "B": 1300, "C": 1300}, 1000), PLAIN)
    assert plan.trigger is not None
    assert plan.trigger.direction is Direction.DOWNSIDE
    assert legs(plan) == [("A", "buy", D(600))]


def test_downside_sells_only_what_is_missing_pro_rata_to_the_excess(portfolio: Build) -> None:
    # Mean 1000: A lacks 600, USDT gives 300; B is 200 above, C is 400 above, D exactly at the mean gives nothing.
    plan = plan_for(portfolio({"A": 400, "B": 1200, "C": 1400, "D": 1000}, 300), PLAIN)
    assert legs(plan) == [("B", "sell", D(100)), ("C", "sell", D(200)), ("A", "buy", D(600))]


def test_downside_grosses_sales_up_by_the_fee(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), fee_rate=D("0.01"))
    plan = plan_for(portfolio({"A": 400, "B": 1200, "C": 1400, "D": 1000}, 300), rules)
    sold = sum(leg.notional_usdt for leg in plan.sells)
    assert float(sold) == pytest.approx(300 / 0.99, rel=1e-15)
    assert float(plan.buys[0].notional_usdt) == pytest.approx(600, rel=1e-15)


def test_downside_takes_at_most_a_quarter_of_each_outperformer(portfolio: Build) -> None:
    # Mean 1000, no USDT: A lacks 900. B's share would be 400, over a quarter of 1400; C's 500 over a quarter of 1500.
    plan = plan_for(portfolio({"A": 100, "B": 1400, "C": 1500}), PLAIN)
    assert legs(plan) == [("B", "sell", D(350)), ("C", "sell", D(375)), ("A", "buy", D(725))]
    assert "at most 25.0 % of it" in plan.sells[0].reason


def test_downside_sells_nothing_for_a_purchase_that_would_be_skipped(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 8, "B": 20, "C": 20, "D": 20}), PLAIN)
    assert plan.trigger is not None
    assert plan.legs == ()
    assert {skip.asset for skip in plan.skipped} == {"A"}


def test_farthest_breach_relative_to_its_own_threshold_goes_first(portfolio: Build) -> None:
    # Mean 1000: A +45 % is 1.125 thresholds, D -40 % is 1.143 thresholds.
    plan = plan_for(portfolio({"A": 1450, "B": 950, "C": 1000, "D": 600}, 500), PLAIN)
    assert plan.trigger is not None
    assert plan.trigger.asset == "D"
    assert any("also beyond: A +45.0 % of +40.0 %" in note for note in plan.notes)


def test_tie_goes_to_the_first_of_the_basket(portfolio: Build) -> None:
    values = {"A": 500, "B": 1500, "C": 1500, "D": 500}
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), upside_threshold=D("0.35"))
    assert plan_for(portfolio(values, 9999), rules).trigger.asset == "A"
    assert plan_for(portfolio(dict(reversed(values.items())), 9999), rules).trigger.asset == "D"


def test_cooling_asset_does_not_fire_and_lets_the_next_go(portfolio: Build) -> None:
    values = {"A": 2500, "B": 2000, "C": 900, "D": 900, "E": 900, "F": 900}
    hot = plan_for(portfolio(values, minutes={"A": "29.999999999"}), PLAIN)
    assert hot.trigger is not None
    assert hot.trigger.asset != "A"
    assert any("A is beyond its limit" in note and "cooling down" in note for note in hot.notes)
    assert plan_for(portfolio(values, minutes={"A": 30}), PLAIN).trigger.asset == "A"
    assert plan_for(portfolio(values, minutes={"A": 0}), PLAIN).trigger.asset != "A"


def test_asset_over_the_position_limit_fires_first_and_goes_back_to_the_limit(portfolio: Build) -> None:
    rules = RebalanceConfig(fee_rate=D(0), usdt_buffer=D(0))
    # A is 60 % of 10,000; B at a fiftieth of the mean is far below its threshold, but the limit goes first.
    plan = plan_for(portfolio({"A": 6000, "B": 50, "C": 2000}, 1950), rules)
    assert plan.trigger is not None
    assert (plan.trigger.asset, plan.trigger.direction) == ("A", Direction.POSITION_LIMIT)
    assert [(leg.asset, leg.side) for leg in plan.legs] == [("A", Side.SELL)]
    assert float(plan.legs[0].notional_usdt) == pytest.approx(2000, rel=1e-15)
    assert plan.legs[0].notional_usdt >= 2000
    assert "60.0 % of 10000.00 USDT, limit 40.0 %" in plan.legs[0].reason


def test_position_exactly_at_the_limit_does_not_fire(portfolio: Build) -> None:
    rules = RebalanceConfig(usdt_buffer=D(0), upside_threshold=D(9))
    assert plan_for(portfolio({"A": 4000, "B": 3000, "C": 3000}), rules).trigger is None
    over = plan_for(portfolio({"A": "4000.0000000000000001", "B": 3000, "C": 3000}), rules)
    assert over.trigger is not None
    assert over.trigger.direction is Direction.POSITION_LIMIT


def test_position_limit_of_one_and_buffer_of_zero_switch_those_rules_off(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), upside_threshold=D(9), downside_threshold=D("0.99"))
    assert plan_for(portfolio({"A": 9990, "B": 200}), rules).trigger is None


def test_restoring_buy_stops_at_the_position_limit_and_sells_no_more_than_that_needs(portfolio: Build) -> None:
    rules = RebalanceConfig(fee_rate=D(0), usdt_buffer=D(0))
    # Portfolio 1000, limit 400, mean 450: A may grow by 200, USDT gives 100, B (over the limit, cooling) the rest.
    plan = plan_for(portfolio({"A": 200, "B": 700}, 100, minutes={"B": 1}), rules)
    assert legs(plan) == [("B", "sell", D(100)), ("A", "buy", D(200))]
    assert plan.trigger.direction is Direction.DOWNSIDE


def test_upside_buy_is_cut_at_the_position_limit(portfolio: Build) -> None:
    rules = RebalanceConfig(fee_rate=D(0), usdt_buffer=D(0), downside_threshold=D("0.99"))
    # Portfolio 1000, limit 400: B at 385 has room for 15 of its 18.20.
    plan = plan_for(portfolio({"A": 390, "B": 385, "C": 5, "D": 5}, 215), rules)
    assert legs(plan) == [("A", "sell", D(78)), ("B", "buy", D(15)), ("C", "buy", D("18.2")), ("D", "buy", D("18.2"))]
    assert "cut from 18.20 USDT by the position limit of 40.0 %" in plan.buys[0].reason
    tighter = plan_for(portfolio({"A": 390, "B": 386, "C": 5, "D": 5}, 214), rules)
    assert "14.00 USDT is under the minimum order of 15.00 USDT, cut from 18.20 USDT" in tighter.skipped[0].reason


def test_room_under_the_position_limit_counts_what_the_plan_costs(portfolio: Build) -> None:
    rules = RebalanceConfig(fee_rate=D("0.01"), usdt_buffer=D(0), downside_threshold=D("0.99"), min_order_value=D(10))
    plan = plan_for(portfolio({"A": 390, "B": 385, "C": 5, "D": 5}, 215), rules)
    # Selling 78 costs 0.78, spending 54.054 at most 1.08108: 40 % of 998.13892, less the 385 held.
    assert plan.buys[0].notional_usdt == D("0.4") * (1000 - D("0.78") - D("1.08108")) - 385


def test_outperformer_is_never_sold_below_the_mean(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), fee_rate=D(0), usdt_buffer=D("0.05"))
    # Mean 1000, A lacks 500 and the buffer 150: B's share of that would be 130, but it is only 100 above the mean.
    plan = plan_for(portfolio({"A": 500, "B": 1100, "C": 1400}), rules)
    assert legs(plan) == [("B", "sell", D(100)), ("C", "sell", D(350)), ("A", "buy", D(300))]


def test_no_buy_touches_the_usdt_buffer(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), fee_rate=D(0), usdt_buffer=D("0.1"))
    # Portfolio 3700, buffer 370: 330 of 700 USDT are free, 270 are missing for A's 600.
    plan = plan_for(portfolio({"A": 400, "B": 1200, "C": 1400}, 700), rules)
    spent = sum(leg.notional_usdt for leg in plan.buys)
    raised = sum(leg.notional_usdt for leg in plan.sells)
    assert 700 + raised - spent >= 370
    assert float(spent) == pytest.approx(600, rel=1e-12)


def test_upside_fills_the_buffer_before_it_buys(portfolio: Build) -> None:
    rules = RebalanceConfig(position_limit=D(1), fee_rate=D(0), usdt_buffer=D("0.05"))
    # Portfolio 4000, buffer 200, no USDT: of 400 proceeds 200 may be spent, not 280.
    plan = plan_for(portfolio({"A": 2000, "B": 1000, "C": 1000}), rules)
    assert legs(plan) == [("A", "sell", D(400)), ("B", "buy", D(100)), ("C", "buy", D(100))]
    assert any("buys cut from 280.00 USDT to 200.00 USDT" in note for note in plan.notes)


def test_start_allocates_all_but_the_reserve_equally(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 0, "B": 0, "C": 0, "D": 0}, 10_000), RebalanceConfig())
    assert plan.trigger is None
    assert plan.action is Direction.ALLOCATE
    assert legs(plan) == [(asset, "buy", D(1750)) for asset in "ABCD"]
    assert any("initial allocation" in note for note in plan.notes)


def test_start_with_dust_allocates_too(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": "0.5", "B": 0}, 1000), RebalanceConfig(position_limit=D(1)))
    assert plan.action is Direction.ALLOCATE


def test_start_keeps_the_buffer_when_it_is_more_than_the_reserve(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 0, "B": 0}, 1000), RebalanceConfig(usdt_reserve=D(0), usdt_buffer=D("0.5")))
    assert legs(plan) == [("A", "buy", D(250)), ("B", "buy", D(250))]


def test_start_without_usdt_does_nothing_and_says_why(portfolio: Build) -> None:
    plan = plan_for(portfolio({"A": 0, "B": 0}, 0), RebalanceConfig())
    assert plan.legs == ()
    assert "deposit USDT" in plan.notes[0]


@pytest.mark.parametrize("price", [None, "0", "-1", "NaN", "Infinity", "1e400", "1e-400"])
def test_price_that_is_no_price_means_no_plan_and_names_the_asset(portfolio: Build, price: str | None) -> None:
    sound = portfolio({"A": 5000, "B": 100, "C": 100}, 1000)
    prices = {"A": D(1), "C": D(1)} | ({} if price is None else {"B": D(price)})
    plan = plan_for(Portfolio(sound.assets, prices, sound.quantities, sound.usdt), PLAIN)
    assert plan.trigger is None
    assert plan.legs == ()
    assert any(note.startswith("price of B is") for note in plan.notes)
    assert price is not None or plan.notes == ("price of B is missing: no plan until the feed reports it",)


def test_quantity_or_usdt_that_nobody_can_hold_means_no_plan(portfolio: Build) -> None:
    sound = portfolio({"A": 5000, "B": 100}, 1000)
    for quantities, usdt, words in (
        ({"A": D("NaN"), "B": D(1)}, D(1), "quantity of A is NaN"),
        ({"A": D(-1), "B": D(1)}, D(1), "quantity of A is -1"),
        ({"B": D(1)}, D(1), "quantity of A is missing"),
        ({"A": D(1), "B": D(1)}, D(-1), "usdt is -1"),
        ({"A": D(1), "B": D(1)}, D("NaN"), "usdt is NaN"),
    ):
        plan = plan_for(Portfolio(sound.assets, sound.prices, quantities, usdt), PLAIN)
        assert plan.legs == ()
        assert words in plan.notes[0]


def test_extreme_but_possible_numbers_stay_exact(portfolio: Build) -> None:
    prices = {"A": D("1e-30"), "B": D("1e30")}
    quantities = {"A": D("1.4e36"), "B": D("0.6e-24")}
    rules = RebalanceConfig(position_limit=D(1), usdt_buffer=D(0), downside_threshold=D("0.9"))
    assert plan_for(Portfolio(("A", "B"), prices, quantities, D(0)), rules).trigger is None
    above = quantities | {"A": D("1.4000000000000000000000000001e36")}
    assert plan_for(Portfolio(("A", "B"), prices, above, D(0)), rules).trigger is not None


def test_single_asset_never_deviates(portfolio: Build) -> None:
    assert plan_for(portfolio({"A": 1000}, 100), PLAIN).trigger is None
