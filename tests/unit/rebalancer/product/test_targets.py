"""Target weights: they sum to one less the reserve, look only back, and care for neither scale nor order."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rebalancer.config import RebalanceConfig, is_named
from services.rebalancer.core.past import Past, extended, trending
from services.rebalancer.core.targets import targets_for
from services.rebalancer.modes import TargetMode

D = Decimal
ASSETS = ("A-USDT", "B-USDT", "C-USDT", "D-USDT")
ESTIMATES = ("inverse_volatility", "minimum_variance", "expected_return", "volume")
WALK = st.lists(st.tuples(*[st.floats(0.8, 1.25)] * 4), min_size=9, max_size=30)


def rules(mode: str, assets: tuple[str, ...] = ASSETS, **changes: object) -> RebalanceConfig:
    return RebalanceConfig(
        assets=assets,
        target_mode=mode,
        trigger="absolute_band",
        lookback_bars=8,
        **{"usdt_reserve": D("0.1")} | changes,
    )


def seen(config: RebalanceConfig, steps: list[tuple[float, ...]], scale: float = 1.0) -> Past:
    past, prices = Past(), dict.fromkeys(ASSETS, scale)
    for step in steps:
        prices = {asset: prices[asset] * move for asset, move in zip(ASSETS, step, strict=True)}
        closes = {asset: D(repr(price)) for asset, price in prices.items()}
        volumes = {asset: D(repr(move)) for asset, move in zip(ASSETS, step, strict=True)}
        past = extended(past, closes, volumes, config)
    return past


@pytest.mark.parametrize("mode", ESTIMATES)
@given(steps=WALK)
@settings(max_examples=40, deadline=None)
def test_estimated_targets_sum_to_one_less_the_reserve_under_the_limit(
    mode: str, steps: list[tuple[float, ...]]
) -> None:
    config = rules(mode)
    found = targets_for(config, ASSETS, seen(config, steps))
    total = sum(found.weights.values())
    assert all(0 <= weight <= config.position_limit for weight in found.weights.values())
    if mode == "expected_return":
        assert 0 <= total <= D("0.9")
    else:
        assert found.obstacle == ""
        assert total == D("0.9")


@pytest.mark.parametrize("mode", ESTIMATES)
@given(steps=WALK, earlier=WALK)
@settings(max_examples=20, deadline=None)
def test_only_the_last_bars_count(mode: str, steps: list[tuple[float, ...]], earlier: list[tuple[float, ...]]) -> None:
    config = rules(mode)
    past = seen(config, steps)
    # Other bars before the window, and the very rows of the window after them.
    longer = seen(config, earlier)
    for closes, volumes in zip(past.closes, past.volumes, strict=True):
        row = [dict(zip(ASSETS, map(D, map(repr, each)), strict=True)) for each in (closes, volumes)]
        longer = extended(longer, row[0], row[1], config)
    assert longer.bars <= config.lookback
    if past.bars == config.lookback:
        assert targets_for(config, ASSETS, longer) == targets_for(config, ASSETS, past)


@pytest.mark.parametrize("mode", ["inverse_volatility", "minimum_variance"])
@given(steps=WALK)
@settings(max_examples=30, deadline=None)
def test_targets_depend_neither_on_price_scale_nor_on_asset_order(mode: str, steps: list[tuple[float, ...]]) -> None:
    config = rules(mode)
    plain = targets_for(config, ASSETS, seen(config, steps)).weights
    scaled = targets_for(config, ASSETS, seen(config, steps, scale=1000.0)).weights
    turned = rules(mode, ASSETS[::-1])
    other = targets_for(turned, ASSETS[::-1], seen(turned, steps)).weights
    for asset in ASSETS:
        assert float(scaled[asset]) == pytest.approx(float(plain[asset]), abs=1e-6)
        assert float(other[asset]) == pytest.approx(float(plain[asset]), abs=1e-6)


@pytest.mark.parametrize("mode", ESTIMATES)
def test_estimator_says_that_it_is_warming_up_and_declares_how_long(mode: str) -> None:
    config = rules(mode)
    steps = [(1.01, 1.0, 0.99, 1.02)] * 20
    known = [bool(targets_for(config, ASSETS, seen(config, steps[:n])).weights) for n in range(1, 21)]
    assert known.index(True) == config.warmup_bars
    assert "warming up" in targets_for(config, ASSETS, Past()).obstacle


def test_calm_asset_gets_more_by_inverse_volatility() -> None:
    config = rules("inverse_volatility")
    steps = [(1.1, 1.01, 1.05, 1.05), (0.91, 0.99, 0.95, 0.95)] * 5
    weights = targets_for(config, ASSETS, seen(config, steps)).weights
    assert weights["B-USDT"] > weights["C-USDT"] > weights["A-USDT"]
    assert abs(weights["C-USDT"] - weights["D-USDT"]) <= D("1e-8")
    assert weights["B-USDT"] == config.position_limit


def test_volumes_of_bars_are_weighed_over_the_lookback() -> None:
    config = rules("volume", position_limit=1)
    steps = [(1.0, 2.0, 3.0, 4.0)] * 8
    weights = targets_for(config, ASSETS, seen(config, steps)).weights
    assert [float(weights[asset]) for asset in ASSETS] == pytest.approx([0.09, 0.18, 0.27, 0.36])


def test_bars_without_volumes_are_named_and_no_weight_is_made_up() -> None:
    config, past = rules("volume"), Past()
    for _ in range(10):
        past = extended(past, dict.fromkeys(ASSETS, D(1)), {}, config)
    assert "do not tell volumes" in targets_for(config, ASSETS, past).obstacle


def test_market_caps_are_capped_and_say_where_they_come_from() -> None:
    config = rules("market_cap", target_weights="A:1000,B:100,C:100,D:100")
    found = targets_for(config, ASSETS, Past())
    assert found.weights["A-USDT"] == D("0.4")
    assert sum(found.weights.values()) == D("0.9")
    assert found.source == "market caps that the settings give"


def test_expected_returns_that_the_settings_give_need_no_past() -> None:
    config = rules("expected_return", expected_returns="A:0.3,B:0.1,C:-1,D:0", position_limit=1)
    assert config.warmup_bars == 0
    weights = targets_for(config, ASSETS, Past()).weights
    assert weights == {"A-USDT": D("0.675"), "B-USDT": D("0.225"), "C-USDT": 0, "D-USDT": 0}


def test_row_with_a_hole_is_left_out_whole() -> None:
    config = rules("minimum_variance")
    past = extended(Past(), dict.fromkeys(ASSETS, D(1)), {}, config)
    for hole in ({}, {"D-USDT": D(0)}, {"D-USDT": D("NaN")}, {"D-USDT": D(-1)}):
        assert extended(past, dict.fromkeys(ASSETS[:3], D(1)) | hole, {}, config) == past


def test_trend_is_upward_and_straight() -> None:
    config = rules("equal", trend_filter=True, trend_bars=4)
    steps = [(1.1, 0.9, 1.1, 1.0), (1.1, 0.9, 0.9, 1.0), (1.1, 0.9, 1.1, 1.0), (1.1, 0.9, 0.92, 1.0), (1.1,) * 4]
    assert trending(seen(config, steps[:4]), config) == ()
    assert trending(seen(config, steps), config) == ("A-USDT", "D-USDT")


@pytest.mark.parametrize("mode", list(TargetMode))
def test_every_mode_refuses_the_cascade_trigger_but_equal(mode: TargetMode) -> None:
    given_weights = {"target_weights": "A:0.3,B:0.3,C:0.2,D:0.1"} if mode in ("fixed", "market_cap") else {}
    if mode is TargetMode.EQUAL:
        assert RebalanceConfig(target_mode=mode).is_cascade
        return
    with pytest.raises(ValueError, match="needs another trigger"):
        RebalanceConfig(target_mode=mode, **given_weights)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target_weights": "A:0.4,B:0.3,C:0.1,D:0"}, "sum to 0.8"),
        ({"target_weights": "A:0.5,B:0.3,C:0.1,D:0"}, "over position_limit"),
        ({"target_weights": "A:0.3,B:0.3,C:0.3"}, "leaves out D-USDT"),
        ({"target_weights": "A:0.3,B:0.3,C:0.2,D:0.05,E:0.05"}, "names E"),
        ({"target_weights": "A:0.3,A:0.6"}, "A twice"),
        ({"target_weights": "A=0.3"}, "market:number"),
        ({"target_weights": "A:-0.3"}, "from 0 up"),
        ({"target_weights": "A:x"}, "not a number"),
        ({}, "must be given"),
    ],
)
def test_fixed_weights_are_checked(changes: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        rules("fixed", **changes)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("trigger", "sometimes", "choose one of cascade, absolute_band"),
        ("band_points", "5", "write 0.05 for 5 %"),
        ("band_relative", -1, "at least 0"),
        ("calendar_hours", 0, "more than 0"),
        ("lookback_bars", 1, "from 2 to 500"),
        ("trend_efficiency", 0, "more than 0"),
        ("excluded_assets", "Z", "not in assets"),
        ("excluded_assets", "A,B,C", "fewer than two"),
        ("locked_assets", "A", "another trigger"),
        ("on_transfer", "panic", "choose one of hold"),
    ],
)
def test_mode_settings_are_checked(key: str, value: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RebalanceConfig(**{"assets": ASSETS, key: value})


@pytest.mark.parametrize("name", ["BTC-USDT", "BTC", "BTCUSDT", "BTC/USDT"])
def test_a_market_may_be_named_in_every_usual_spelling(name: str) -> None:
    config = RebalanceConfig(
        assets=("BTC-USDT", "ETH-USDT"),
        trigger="relative_band",
        target_mode="fixed",
        target_weights=f"{name}:0.3,ETH:0.4",
        locked_assets=name,
    )
    assert config.given("target_weights", "BTC-USDT") == Decimal("0.3")
    assert is_named(config.locked_assets, "BTC-USDT")


def test_a_market_given_in_two_spellings_is_refused() -> None:
    with pytest.raises(ValueError, match="names BTC-USDT twice"):
        RebalanceConfig(
            assets=("BTC-USDT", "ETH-USDT"),
            trigger="relative_band",
            target_mode="market_cap",
            target_weights="BTC:3,BTCUSDT:4,ETH:1",
        )
