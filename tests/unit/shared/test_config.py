from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from shared.config import Settings, load_settings, timeframe_ns
from shared.errors import ConfigError


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    share: Decimal = Decimal("0.4")
    count: int = 3
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {self.share}: write 50 % as 0.5")


def section(*overrides: str) -> Limits:
    return load_settings(None, overrides, {}).section("risk", Limits)


def test_a_file_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text("[risk]\nshare = 0.123456789012345678901234567890\n")
    limits = load_settings(path, (), {}).section("risk", Limits)
    assert limits.share == Decimal("0.123456789012345678901234567890")


def test_the_environment_beats_the_file_and_an_override_beats_both(tmp_path: Path) -> None:
    path = tmp_path / "cascade.toml"
    path.write_text("[risk]\ncount = 1\nshare = 0.1\n")
    environ = {"CASCADE_RISK__COUNT": "2", "CASCADE_RISK__SHARE": "0.2", "UNRELATED": "x"}
    limits = load_settings(path, ["risk.share=0.3"], environ).section("risk", Limits)
    assert (limits.count, limits.share) == (2, Decimal("0.3"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["risk.shre=0.1"], "risk.shre is no setting: did you mean 'share'?"),
        (["rsk.share=0.1"], "did you mean 'risk'?"),
        (["risk.share=50"], "write 50 % as 0.5"),
        (["risk.share=-0.1"], "share must lie in (0, 1]"),
        (["risk.share=abc"], "risk.share"),
        (["risk.count=2.5"], "risk.count"),
        (["share=0.1"], "must be section.key=value"),
        (["risk.share"], "must be section.key=value"),
    ],
)
def test_a_bad_override_is_refused_with_the_key_and_the_fix(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        section(*overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("stack.assets=HUSDT", "at least two markets"),
        ("stack.assets=HUSDT,H-USDT", "names a market twice"),
        ("stack.assets=HUSDT,XYZ", "write it as BASE-QUOTE"),
        ("stack.assets=HUSDT,IOTABTC", "must be written as BASE-USDT"),
        ("stack.initial_usdt=0", "initial_usdt must be a positive amount"),
        ("stack.initial_usdt=NaN", "initial_usdt must be a positive amount"),
        ("stack.mode=lve", "stack.mode"),
        ("stack.timeframe=90x", "timeframe must look like"),
        ("stack.venue=Me.xc", "venue must be a lower-case word"),
    ],
)
def test_a_bad_stack_is_refused(overrides: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, [overrides], {})
    assert said in str(caught.value)


def test_any_spelling_of_a_market_becomes_its_bus_token() -> None:
    stack = load_settings(None, ["stack.assets=riverusdt, H/USDT,TAO-USDT"], {}).stack
    assert stack.assets == ("RIVER-USDT", "H-USDT", "TAO-USDT")


def test_a_list_may_be_a_text_with_commas() -> None:
    assert section("risk.names=a, b,c").names == ("a", "b", "c")
    assert load_settings(None, (), {"CASCADE_RISK__NAMES": "one"}).section("risk", Limits).names == ("one",)


def test_defaults_fill_only_what_is_left_out() -> None:
    settings = load_settings(None, ["risk.count=7"], {})
    limits = settings.section("risk", Limits, count=1, names=("a",))
    assert (limits.count, limits.names) == (7, ("a",))


def test_a_child_process_sees_what_was_validated(tmp_path: Path) -> None:
    settings = load_settings(None, ["risk.share=0.25", "stack.assets=HUSDT,TAOUSDT"], {})
    path = tmp_path / "resolved.json"
    path.write_bytes(settings.to_json())
    again = load_settings(path, (), {})
    assert again.section("risk", Limits) == settings.section("risk", Limits)
    assert again.stack == settings.stack


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[risk\n")
    for path in (tmp_path / "absent.toml", broken):
        with pytest.raises(ConfigError, match=path.name):
            load_settings(path, (), {})


def test_a_section_that_nobody_owns_is_refused() -> None:
    with pytest.raises(ConfigError, match="executoin"):
        Settings({"executoin": {}})


def test_timeframes_have_lengths() -> None:
    assert timeframe_ns("4h") == 4 * 3_600 * 10**9
    for bad in ("", "0m", "4", "h", "1w", "-1m", "1.5h"):
        with pytest.raises(ValueError, match="timeframe"):
            timeframe_ns(bad)
