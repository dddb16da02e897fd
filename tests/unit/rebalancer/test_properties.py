"""What holds for every portfolio: the invariants of a rebalancer."""

from decimal import Decimal, localcontext
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Direction, Plan, Portfolio, plan_for
from shared.domain.instruments import Instrument
from shared.messages import Side

D = Decimal
NAMES = tuple("ABCDEFGH")


def decimals(low: str, high: str, places: int = 6) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=places, allow_nan=False, allow_infinity=False)


@st.composite
def portfolios(draw: st.DrawFn) -> Portfolio:
    count = draw(st.integers(2, 8))
    assets = NAMES[:count]
    scale = draw(st.sampled_from([D(1), D(20), D(500), D(20_000)]))
    prices = {asset: draw(decimals("0.000001", "5000")) for asset in assets}
    with localcontext(prec=30):
        worths = {asset: scale * draw(decimals("0", "3", 3)) for asset in assets}
        quantities = {asset: (worths[asset] / prices[asset]).quantize(D("1e-9")) for asset in assets}
    minutes = draw(st.dictionaries(st.sampled_from(assets), decimals("0", "60", 2), max_size=3))
    return Portfolio(
        assets=assets,
        prices=prices,
        quantities=quantities,
        usdt=scale * draw(st.one_of(st.just(D(0)), decimals("0", "3", 3))),
        elapsed_ns={asset: each * 60_000_000_000 for asset, each in minutes.items()},
    )


@st.composite
def rule_sets(draw: st.DrawFn) -> RebalanceConfig:
    return RebalanceConfig(
        upside_threshold=draw(decimals("0.05", "1", 2)),
        downside_threshold=draw(decimals("0.05", "0.95", 2)),
        sell_percentage=draw(decimals("0.05", "1", 2)),
        usdt_reserve=draw(decimals("0", "1", 2)),
        min_order_value=draw(st.sampled_from([D(0), D(5), D(15), D(100)])),
        position_limit=draw(st.sampled_from([D("0.2"), D("0.4"), D("0.4"), D("0.6"), D(1)])),
        usdt_buffer=draw(st.sampled_from([D(0), D("0.05"), D("0.3")])),
        outperformer_sell_limit=draw(st.sampled_from([D("0.25"), D(0), D(1)])),
        fee_rate=draw(st.sampled_from([D(0), D("0.001"), D("0.01")])),
    )


def grids(portfolio: Portfolio, step: str | None) -> dict[str, Instrument]:
    if step is None:
        return {}
    return {a: Instrument(a, a, "USDT", D("0.000001"), D(step), D(step), D(5)) for a in portfolio.assets}


steps = st.sampled_from([None, "0.000001", "0.01", "1"])


@st.composite
def lopsided(draw: st.DrawFn, factor: Decimal) -> Portfolio:
    """Return a portfolio whose first asset is far from the others, with little USDT and nothing cooling down."""
    drawn = draw(portfolios())
    scale = draw(st.sampled_from([D(200), D(20_000)]))
    worths = {asset: scale * draw(decimals("0.8", "1.2", 3)) for asset in drawn.assets}
    worths[drawn.assets[0]] *= factor
    with localcontext(prec=30):
        quantities = {asset: (worths[asset] / drawn.prices[asset]).quantize(D("1e-9")) for asset in drawn.assets}
    return Portfolio(drawn.assets, drawn.prices, quantities, scale * draw(decimals("0", "0.5", 3)))


def worth(portfolio: Portfolio) -> dict[str, Fraction]:
    return {a: Fraction(portfolio.prices[a]) * Fraction(portfolio.quantities[a]) for a in portfolio.assets}


def carried_out(portfolio: Portfolio, plan: Plan, fee_rate: Decimal) -> tuple[dict[str, Fraction], Fraction, Fraction]:
    """Return values and USDT after ideal fills, and the fees."""
    values, usdt, fee = worth(portfolio), Fraction(portfolio.usdt), Fraction(fee_rate)
    fees = Fraction(0)
    for leg in plan.sells:
        amount = Fraction(leg.quantity) * Fraction(portfolio.prices[leg.asset])
        values[leg.asset] -= amount
        usdt += amount * (1 - fee)
        fees += amount * fee
    for leg in plan.buys:
        amount = Fraction(leg.notional_usdt)
        values[leg.asset] += amount * (1 - fee)
        usdt -= amount
        fees += amount * fee
    return values, usdt, fees


@given(portfolios(), rule_sets(), steps)
def test_plan_never_sells_more_than_held_nor_spends_what_is_not_free(
    portfolio: Portfolio, rules: RebalanceConfig, step: str | None
) -> None:
    plan = plan_for(portfolio, rules, grids(portfolio, step))
    for leg in plan.sells:
        assert 0 < leg.quantity <= portfolio.quantities[leg.asset]
    assert len({leg.asset for leg in plan.legs}) == len(plan.legs), "one leg for each asset"
    values, usdt, _ = carried_out(portfolio, plan, rules.fee_rate)
    assert min(values.values()) >= 0
    if plan.buys:
        total = sum(worth(portfolio).values()) + Fraction(portfolio.usdt)
        assert usdt >= Fraction(rules.usdt_buffer) * total, "a buy touched the buffer"


@given(portfolios(), rule_sets(), steps)
def test_value_is_conserved_but_for_fees(portfolio: Portfolio, rules: RebalanceConfig, step: str | None) -> None:
    plan = plan_for(portfolio, rules, grids(portfolio, step))
    values, usdt, fees = carried_out(portfolio, plan, rules.fee_rate)
    assert sum(values.values()) + usdt + fees == sum(worth(portfolio).values()) + Fraction(portfolio.usdt)


@given(portfolios(), rule_sets(), steps)
def test_no_leg_is_under_the_minimum_or_off_the_grid(
    portfolio: Portfolio, rules: RebalanceConfig, step: str | None
) -> None:
    plan = plan_for(portfolio, rules, grids(portfolio, step))
    for leg in plan.legs:
        assert leg.notional_usdt >= rules.min_order_value
        assert leg.reason
        if step is not None:
            assert leg.quantity % D(step) == 0
            assert leg.notional_usdt >= 5
            spent = Fraction(leg.quantity) * Fraction(portfolio.prices[leg.asset])
            assert leg.side is Side.SELL or spent <= Fraction(leg.notional_usdt)
    assert all(skip.reason for skip in plan.skipped)
    assert plan.notes


@given(portfolios(), rule_sets(), steps)
def test_no_buy_takes_an_asset_over_the_position_limit(
    portfolio: Portfolio, rules: RebalanceConfig, step: str | None
) -> None:
    if rules.position_limit == 1:
        return
    plan = plan_for(portfolio, rules, grids(portfolio, step))
    values, usdt, _ = carried_out(portfolio, plan, rules.fee_rate)
    total = sum(values.values()) + usdt
    for leg in plan.buys:
        assert values[leg.asset] <= Fraction(rules.position_limit) * total


@given(lopsided(D(20)), rule_sets())
def test_limit_plan_ends_at_the_limit(portfolio: Portfolio, rules: RebalanceConfig) -> None:
    plan = plan_for(portfolio, rules)
    if plan.trigger is None or plan.trigger.direction is not Direction.POSITION_LIMIT or not plan.legs:
        return
    values, usdt, _ = carried_out(portfolio, plan, rules.fee_rate)
    asset, total = plan.trigger.asset, sum(values.values()) + usdt
    assert values[asset] <= Fraction(rules.position_limit) * total
    assert values[asset] / total > Fraction(rules.position_limit) * (1 - Fraction(1, 10**20))


@given(portfolios(), rule_sets())
def test_trigger_agrees_with_fractions(portfolio: Portfolio, rules: RebalanceConfig) -> None:
    values = worth(portfolio)
    mean = sum(values.values()) / len(values)
    if mean == 0 or mean * len(values) < rules.min_order_value:
        return
    total = mean * len(values) + Fraction(portfolio.usdt)
    cooldown = Fraction(rules.cooldown_minutes) * 60_000_000_000
    limits, bands = [], []
    for place, asset in enumerate(portfolio.assets):
        if Fraction(portfolio.elapsed_ns.get(asset, cooldown)) < cooldown:
            continue
        deviation = values[asset] / mean - 1
        threshold = Fraction(rules.upside_threshold if deviation > 0 else rules.downside_threshold)
        if rules.position_limit < 1 and values[asset] / total > Fraction(rules.position_limit):
            limits.append((-values[asset], place, asset, "position_limit"))
        elif abs(deviation) > threshold:
            bands.append((-abs(deviation) / threshold, place, asset, "upside" if deviation > 0 else "downside"))
    expected = (sorted(limits) + sorted(bands))[:1]
    plan = plan_for(portfolio, rules)
    got = [] if plan.trigger is None else [(plan.trigger.asset, plan.trigger.direction.value)]
    assert got == [each[2:] for each in expected]
    if not expected:
        assert plan.legs == (), "a trade inside the band"


@given(portfolios(), rule_sets(), st.sampled_from([D("0.001"), D("8"), D("1000")]))
def test_plan_does_not_depend_on_the_unit_of_an_asset(
    portfolio: Portfolio, rules: RebalanceConfig, factor: Decimal
) -> None:
    first = portfolio.assets[0]
    with localcontext(prec=60):
        rescaled = Portfolio(
            portfolio.assets,
            portfolio.prices | {first: portfolio.prices[first] * factor},
            portfolio.quantities | {first: portfolio.quantities[first] / factor},
            portfolio.usdt,
            portfolio.elapsed_ns,
        )
        assert rescaled.quantities[first] * factor == portfolio.quantities[first]
    before, after = plan_for(portfolio, rules), plan_for(rescaled, rules)
    assert before.trigger == after.trigger
    assert [(leg.asset, leg.side) for leg in before.legs] == [(leg.asset, leg.side) for leg in after.legs]
    for one, other in zip(before.legs, after.legs, strict=True):
        assert abs(one.notional_usdt - other.notional_usdt) <= D("1e-25")


@given(portfolios(), rule_sets(), st.randoms(use_true_random=False))
def test_plan_does_not_depend_on_the_order_of_assets(
    portfolio: Portfolio, rules: RebalanceConfig, random: object
) -> None:
    values = worth(portfolio)
    if len(set(values.values())) < len(values):
        return
    shuffled = list(portfolio.assets)
    random.shuffle(shuffled)
    other = plan_for(
        Portfolio(tuple(shuffled), portfolio.prices, portfolio.quantities, portfolio.usdt, portfolio.elapsed_ns), rules
    )
    plan = plan_for(portfolio, rules)
    if plan.trigger is not None and other.trigger is not None and plan.trigger != other.trigger:
        # Two assets as urgent as each other, one above and one below the mean: the basket's order decides.
        mean = sum(values.values()) / len(values)
        urgency = {
            each.asset: abs(values[each.asset] / mean - 1)
            / Fraction(rules.upside_threshold if each.deviation > 0 else rules.downside_threshold)
            for each in (plan.trigger, other.trigger)
        }
        assert len(set(urgency.values())) == 1
        return
    assert plan.trigger == other.trigger
    assert {(leg.asset, leg.side, leg.quantity) for leg in plan.legs} == {
        (leg.asset, leg.side, leg.quantity) for leg in other.legs
    }


@given(lopsided(D("0.2")), rule_sets(), steps)
def test_outperformers_give_no_more_than_their_limit_and_stay_above_the_mean(
    portfolio: Portfolio, rules: RebalanceConfig, step: str | None
) -> None:
    plan = plan_for(portfolio, rules, grids(portfolio, step))
    if plan.trigger is None or plan.trigger.direction is not Direction.DOWNSIDE or not plan.sells:
        return
    values, _, _ = carried_out(portfolio, plan, rules.fee_rate)
    before = worth(portfolio)
    mean = sum(before.values()) / len(before)
    for leg in plan.sells:
        assert before[leg.asset] > mean
        assert leg.quantity <= portfolio.quantities[leg.asset] * rules.outperformer_sell_limit
        assert values[leg.asset] >= mean - Fraction(1, 10**20)
    assert values[plan.trigger.asset] <= mean, "bought beyond the mean"
    assert plan.buys, "sold for nothing"
