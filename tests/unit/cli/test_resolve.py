"""Settings are refused before anything starts, each time with the field and the fix."""

from pathlib import Path

import pytest

from services.cli.resolve import SECTIONS, UpOptions, differences, resolve
from services.market_data.config import FeedKind
from shared.config import SECTIONS as KNOWN_SECTIONS
from shared.config import Mode
from shared.errors import CascadeError, ConfigError, InputError

HEADER = "symbol,open_time,open,high,low,close,volume\n"


def candles(path: Path, assets: tuple[str, ...] = ("AUSDT", "BUSDT"), steps: int = 4, skip: int | None = None) -> Path:
    """Write hourly candles, without the bar number `skip` of the first asset."""
    rows = [
        f"{asset},{1_767_225_600_000 + step * 3_600_000},1.1,1.3,1.0,1.2,100.5\n"
        for asset in assets
        for step in range(steps)
        if not (asset == assets[0] and step == skip)
    ]
    path.write_text(HEADER + "".join(rows))
    return path


def resolve_with(*overrides: str, environ: dict[str, str] | None = None, **options: object) -> object:
    """Resolve options over an empty environment."""
    return resolve(UpOptions(overrides=overrides, **options), environ or {})  # type: ignore[arg-type]


def test_defaults_are_the_sandbox_exchange() -> None:
    resolved = resolve(UpOptions(), {})
    stack = resolved.settings.stack
    assert (stack.mode, stack.venue, stack.timeframe) == (Mode.SANDBOX, "mexc", "15s")
    assert resolved.state_dir == Path("var/sandbox-mexc").resolve()


@pytest.mark.parametrize(
    "options",
    [
        UpOptions(speed="max"),
        UpOptions(overrides=("market_data.seed=7",)),
        UpOptions(overrides=("market_data.feed=synthetic",)),
        UpOptions(overrides=("stack.mode=replay",)),
        UpOptions(overrides=("stack.mode=sandbox",), speed="3600"),
    ],
)
def test_a_setting_of_a_replay_makes_it_one(options: UpOptions) -> None:
    resolved = resolve(options, {})
    stack = resolved.settings.stack
    assert (stack.mode, stack.venue, stack.timeframe) == (Mode.REPLAY, "sandbox", "15m")
    assert resolved.market_data.feed is FeedKind.SYNTHETIC
    assert resolved.state_dir == Path("var/synthetic").resolve()


def test_the_venue_is_one_setting_and_so_is_the_mode() -> None:
    paper = resolve(UpOptions(overrides=("stack.mode=paper", "stack.venue=binance")), {})
    assert paper.state_dir == Path("var/paper-binance").resolve()
    assert paper.settings.stack.timeframe == "15m"


def test_a_configuration_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError, match=r"my\.toml is no text"):
        resolve(UpOptions(config=path), {})


def key_files(folder: Path, mode: int = 0o600) -> tuple[str, str]:
    for name in ("key", "secret"):
        (folder / name).write_text("0123456789abcdef")
        (folder / name).chmod(mode)
    return f"exchange.key_file={folder / 'key'}", f"exchange.secret_file={folder / 'secret'}"


def test_a_key_that_others_read_is_refused_before_anything_starts(tmp_path: Path) -> None:
    overrides = ("stack.mode=live", "exchange.armed=true", *key_files(tmp_path, 0o644))
    with pytest.raises(ConfigError, match="chmod 600"):
        resolve(UpOptions(overrides=overrides), {"CASCADE_LIVE_ARMED": "yes"})


def test_live_needs_both_switches_and_the_key_files(tmp_path: Path) -> None:
    live, armed = "stack.mode=live", "exchange.armed=true"
    files = key_files(tmp_path)
    switch = {"CASCADE_LIVE_ARMED": "yes"}
    assert resolve(UpOptions(overrides=(live, armed, *files)), switch).settings.stack.mode is Mode.LIVE
    refused: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        ((live, *files), switch, "exchange.armed"),
        ((live, armed, *files), {}, "CASCADE_LIVE_ARMED=yes"),
        ((live, armed, *files), {"CASCADE_LIVE_ARMED": "no"}, "CASCADE_LIVE_ARMED=yes"),
        ((live, armed), switch, "exchange.key_file"),
        ((live, armed, files[0]), switch, "exchange.secret_file"),
        ((live, armed, *files, "exchange.rest_url=http://127.0.0.1:1"), switch, "stack.mode=sandbox"),
    ]
    for overrides, environ, words in refused:
        with pytest.raises(ConfigError, match=words):
            resolve(UpOptions(overrides=overrides), environ)
    with pytest.raises(ConfigError, match=r"stack\.mode=replay"):
        resolve(UpOptions(overrides=(live, armed, *files), speed="max"), switch)


def test_a_named_mode_is_not_changed_by_the_settings_of_a_replay() -> None:
    resolved = resolve(UpOptions(overrides=("stack.mode=sandbox", "market_data.speed=3600")), {})
    assert resolved.settings.stack.mode is Mode.SANDBOX


def test_every_section_but_the_stack_belongs_to_a_service() -> None:
    assert {"stack", *SECTIONS} == set(KNOWN_SECTIONS)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rebalancer.upside_threshold=-0.1", ["rebalancer", "upside_threshold", "-0.1"]),
        ("rebalancer.upside_treshold=0.4", ["rebalancer.upside_treshold", "did you mean 'upside_threshold'"]),
        ("rebalancer.sell_percentage=nan", ["rebalancer", "sell_percentage", "NaN"]),
        ("risk.notional_max_usdt=-1", ["risk", "notional_max_usdt", "-1"]),
        ("execution.taker_fee_rate=20", ["execution", "taker_fee_rate", "0.001"]),
        ("recorder.no_such_key=1", ["recorder.no_such_key", "no setting"]),
        ("dashboard.port=99999", ["dashboard", "port", "99999"]),
        ("market_data.speed=fast", ["market_data", "speed", "900, or max"]),
        ("stack.assets=HUSDT", ["stack", "assets", "at least two"]),
        ("stack.assets=H,TAO", ["stack.assets", "BTC-USDT"]),
        ("stack.timeframe=7x", ["stack", "timeframe", "4h"]),
        ("stack.mode=live", ["stack.mode", "live", "sandbox"]),
        ("stack.venue=kraken", ["stack", "venue", "mexc or binance", "kraken"]),
        ("stack.mode=fun", ["stack.mode", "fun", "choose replay, sandbox, paper or live"]),
        ("rebalancr.position_limit=1", ["rebalancr", "did you mean 'rebalancer'"]),
        ("position_limit=1", ["section.key=value"]),
        ("stack.initial_usdt=abc", ["stack.initial_usdt", "got 'abc'", "write for example 10000"]),
        ("dashboard.port=x", ["dashboard.port", "Expected `int`, got 'x'", "8080"]),
        ("rebalancer.enabled=maybe", ["rebalancer.enabled", "'maybe'", "write for example true"]),
        ("stack.quote_asset=", ["quote_asset", "USDT"]),
    ],
)
def test_bad_setting_is_refused_by_name(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve_with(override)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_environment_counts_and_set_counts_more() -> None:
    environ = {"CASCADE_REBALANCER__COOLDOWN_MINUTES": "45", "CASCADE_REBALANCER__POSITION_LIMIT": "0.5"}
    resolved = resolve(UpOptions(overrides=("rebalancer.cooldown_minutes=60",)), environ)
    assert (resolved.rebalancer.cooldown_minutes, str(resolved.rebalancer.position_limit)) == (60, "0.5")


def test_replay_sets_feed_timeframe_and_a_place_of_its_own(tmp_path: Path) -> None:
    path = candles(tmp_path / "candles.csv")
    resolved = resolve(UpOptions(replay=path, assets="AUSDT,BUSDT", speed="max"), {})
    assert resolved.settings.stack.timeframe == "1h"
    assert resolved.settings.stack.assets == ("A-USDT", "B-USDT")
    assert resolved.replay is not None
    assert resolved.replay.steps == 4
    assert resolved.state_dir.name.startswith("replay-")


def test_speed_and_page_do_not_make_another_run_but_rules_and_data_do(tmp_path: Path) -> None:
    path = candles(tmp_path / "candles.csv")

    def place(*overrides: str, speed: str = "max") -> Path:
        options = UpOptions(replay=path, assets="AUSDT,BUSDT", speed=speed, overrides=overrides)
        return resolve(options, {}).state_dir

    first = place()
    assert place(speed="60") == first
    assert place("dashboard.port=9000") == first
    assert place("rebalancer.cooldown_minutes=60") != first
    candles(path, steps=5)
    assert place() != first


@pytest.mark.parametrize(
    ("assets", "steps", "skip", "words"),
    [
        ("AUSDT,CUSDT", 4, None, ["C-USDT", "candles.csv"]),
        ("AUSDT,BUSDT", 0, None, ["candles.csv"]),
        ("AUSDT,BUSDT", 4, 2, ["A-USDT lacks 1 of 4 bars", "market_data.missing_bars=hold"]),
    ],
)
def test_unusable_replay_is_refused_with_file_and_fix(
    tmp_path: Path, assets: str, steps: int, skip: int | None, words: list[str]
) -> None:
    path = candles(tmp_path / "candles.csv", steps=steps, skip=skip)
    with pytest.raises(InputError) as refusal:
        resolve(UpOptions(replay=path, assets=assets), {})
    assert [word for word in words if word not in str(refusal.value)] == []


def test_missing_replay_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        resolve(UpOptions(replay=tmp_path / "none.csv"), {})


def test_timeframe_that_contradicts_the_replay_is_refused(tmp_path: Path) -> None:
    path = candles(tmp_path / "candles.csv")
    with pytest.raises(ConfigError, match=r"stack\.timeframe is 15m.*1h"):
        resolve(UpOptions(replay=path, assets="AUSDT,BUSDT", overrides=("stack.timeframe=15m",)), {})


def test_nan_price_is_refused(tmp_path: Path) -> None:
    path = candles(tmp_path / "candles.csv")
    path.write_text(path.read_text().replace("1.2,100.5", "nan,100.5", 1))
    with pytest.raises(CascadeError, match="close"):
        resolve(UpOptions(replay=path, assets="AUSDT,BUSDT"), {})


def test_differences_name_both_sides() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == [
        "b was 2, now it is not set",
        "c was not set, now it is 3",
    ]
