from decimal import Decimal

import pytest

from services.market_data.config import FeedKind, MarketDataConfig
from services.market_data.core.feed import iso_text
from services.market_data.feeds import build_feed
from shared.config import load_settings
from shared.errors import ConfigError


def configure(*overrides: str) -> MarketDataConfig:
    settings = load_settings(None, [f"market_data.{override}" for override in overrides], environ={})
    return settings.section("market_data", MarketDataConfig)


def test_defaults_show_an_hour_a_second():
    config = MarketDataConfig()
    assert config.feed is FeedKind.SYNTHETIC
    assert config.speed_factor == 3600.0
    assert config.participant_names == ("rebalancer", "risk", "execution", "recorder")


def test_texts_from_the_environment_are_understood():
    config = configure("speed=max", "participants=risk, execution", "steps_max=5", "notional_min=1.5")
    assert config.speed_factor is None
    assert config.participant_names == ("risk", "execution")
    assert (config.steps_max, config.notional_min) == (5, Decimal("1.5"))
    assert configure("speed=2.5").speed_factor == 2.5
    assert configure("participants=").participant_names == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", "2026-01-31T00:00:00Z"),
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
        ("2026-01-31T08:00:00+08:00", "2026-01-31T00:00:00Z"),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, expected):
    start_ns = configure(f"start={text}").start_ns
    assert start_ns is not None
    assert iso_text(start_ns) == expected


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("speed=0", "speed must be a factor"),
        ("speed=-1", "speed must be a factor"),
        ("speed=nan", "speed must be a factor"),
        ("speed=fast", "speed must be a factor"),
        ("steps_max=0", "steps_max must be at least 1"),
        ("seed=-1", "seed must be at least 0"),
        ("feed=replay", "replay_path must name"),
        ("replay_path=x.csv", "set feed to replay"),
        ("start=yesterday", "start must be a time"),
        ("volatility_daily=-0.1", "volatility_daily must lie between"),
        ("correlation=nan", "correlation must lie between"),
        ("regime_days=0.5", "regime_days must lie between"),
        ("jumps_per_day=1000", "jumps_per_day must lie between"),
        ("notional_min=NaN", "notional_min must be an amount"),
        ("participants=a.b", "participants"),
        ("participants=a,a", "twice"),
        ("feed=live", "feed"),
        ("spede=1", "did you mean 'speed'"),
    ],
)
def test_a_bad_value_is_refused_by_name(override, words):
    with pytest.raises(ConfigError, match="market_data") as refused:
        configure(override)
    assert words in str(refused.value)


def test_an_end_before_the_start_is_refused():
    with pytest.raises(ConfigError, match="end must be after start"):
        configure("start=2026-02-01", "end=2026-01-01")


def test_a_synthetic_market_ends_at_its_end_or_after_its_steps():
    stack = load_settings(None, ["stack.timeframe=1h"], environ={}).stack
    feed = build_feed(stack, MarketDataConfig(start="2026-01-01", end="2026-01-02T00:30"))
    last = feed.step(24)
    assert last is not None
    assert last.final
    assert feed.step(25) is None
    few = build_feed(stack, MarketDataConfig(start="2026-01-01", end="2026-01-02", steps_max=3))
    assert few.step(3) is not None
    assert few.step(4) is None
    with pytest.raises(ConfigError, match="no whole bar"):
        build_feed(stack, MarketDataConfig(start="2026-01-01", end="2026-01-01T00:30"))


def test_a_replay_with_another_interval_than_the_stack_is_refused(tmp_path):
    path = tmp_path / "bars.csv"
    rows = [f"{asset},{1_767_225_600 + 3600 * at},1,1,1,1,1" for asset in ("AUSDT", "BUSDT") for at in range(2)]
    path.write_text("\n".join(["symbol,open_time,open,high,low,close,volume", *rows]))
    stack = load_settings(None, ["stack.assets=AUSDT,BUSDT"], environ={}).stack
    with pytest.raises(ConfigError, match=r"set stack\.timeframe=1h"):
        build_feed(stack, MarketDataConfig(feed=FeedKind.REPLAY, replay_path=str(path)))
