"""Who is in, who is out, and why."""

import math
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from services.cli.universe import app, pin
from services.cli.universe_source import facts_of_file
from shared.config import load_settings
from shared.domain.universe import (
    Exclusion,
    Market,
    Universe,
    UniverseRules,
    ages_settled,
    correlation,
    get_top_crypto_pairs,
    is_leveraged,
    log_returns,
    spread_pct,
)
from shared.errors import ConfigError, InputError
from shared.testing.data import data_file

DAY = 86_400_000_000_000
NOW = 1_767_225_600_000_000_000
GOOD = Market("AAA-USDT", "AAA", "USDT", True, Decimal(10), Decimal("9.99"), Decimal("10.01"), Decimal(1_000_000))


def changed(**changes: object) -> Market:
    base = str(changes.get("base", "AAA"))
    quote = str(changes.get("quote", "USDT"))
    return msgspec.structs.replace(GOOD, **{"instrument": f"{base}-{quote}", **changes})


def reason(market: Market, rules: UniverseRules | None = None) -> Exclusion | None:
    found = get_top_crypto_pairs([market], rules or UniverseRules(), now_ns=NOW)
    return found.excluded[0].reason if found.excluded else None


@pytest.mark.parametrize(
    ("market", "expected"),
    [
        (GOOD, None),
        (changed(quote="BTC"), Exclusion.QUOTE),
        (changed(base="USDC"), Exclusion.STABLECOIN),
        (changed(base="BTC3L"), Exclusion.LEVERAGED),
        (changed(is_active=False), Exclusion.STATUS),
        (changed(last=None), Exclusion.BROKEN),
        (changed(last=Decimal(0)), Exclusion.BROKEN),
        (changed(quote_volume=None), Exclusion.BROKEN),
        (changed(bid=None), Exclusion.BROKEN),
        (changed(bid=Decimal("10.02")), Exclusion.BROKEN),
        (changed(ask=Decimal("10.1")), Exclusion.SPREAD),
        (changed(quote_volume=Decimal(49_999)), Exclusion.VOLUME),
        (changed(quote_volume=Decimal(50_000)), None),
    ],
)
def test_each_rule_has_its_reason(market: Market, expected: Exclusion | None) -> None:
    assert reason(market) is expected


def test_price_age_and_denial_are_asked_when_wanted() -> None:
    assert reason(GOOD, UniverseRules(price_min=Decimal(11))) is Exclusion.PRICE
    assert reason(GOOD, UniverseRules(price_max=Decimal(9))) is Exclusion.PRICE
    assert reason(GOOD, UniverseRules(deny=("AAA",))) is Exclusion.DENIED
    young = msgspec.structs.replace(GOOD, listed_at_ns=NOW - 30 * DAY + 1)
    assert reason(young, UniverseRules(age_days_min=30)) is Exclusion.AGE
    assert reason(msgspec.structs.replace(GOOD, listed_at_ns=NOW - 30 * DAY), UniverseRules(age_days_min=30)) is None
    assert reason(GOOD, UniverseRules(age_days_min=30)) is Exclusion.AGE
    assert reason(young) is None


def test_ages_are_asked_for_of_the_chosen_alone_until_none_is_unknown() -> None:
    markets = [changed(base=f"A{at}", quote_volume=Decimal(10**6 - at)) for at in range(6)]
    markets[5] = msgspec.structs.replace(markets[5], listed_at_ns=NOW - DAY)
    listed = {"A0-USDT": NOW - DAY, "A1-USDT": NOW - 40 * DAY, "A3-USDT": NOW - 30 * DAY, "A4-USDT": NOW - 99 * DAY}
    asked: list[str] = []

    def ask(names: Sequence[str]) -> dict[str, int | None]:
        asked.extend(names)
        return {name: listed.get(name) for name in names}

    rules = UniverseRules(count=2, age_days_min=30)
    settled = ages_settled(markets, rules, ask, now_ns=NOW)
    found = get_top_crypto_pairs(settled, rules, now_ns=NOW)
    # A0 is young, A2 is one of whom nobody says anything; A4 is never needed.
    assert found.instruments == ("A1-USDT", "A3-USDT")
    assert asked == ["A0-USDT", "A1-USDT", "A2-USDT", "A3-USDT"]
    assert {one.instrument: one.reason for one in found.excluded} == {
        "A0-USDT": Exclusion.AGE, "A2-USDT": Exclusion.AGE, "A4-USDT": Exclusion.RANK, "A5-USDT": Exclusion.AGE,
    }  # fmt: skip
    asked.clear()
    assert ages_settled(markets, UniverseRules(count=2), ask, now_ns=NOW) == markets
    assert not asked


def test_a_name_that_no_subject_or_store_can_hold_is_out() -> None:
    for base in ("币安人生", "A.B", 'A"]\nB', "A B", ">", "*", "", "A" * 33, "a"):
        assert reason(changed(base=base)) is Exclusion.NAME, base
    assert reason(changed(instrument="BBB-USDT")) is Exclusion.NAME
    with pytest.raises(ValueError, match="given twice"):
        get_top_crypto_pairs([GOOD, GOOD], UniverseRules(), now_ns=NOW)


def test_figures_that_cannot_be_are_no_facts() -> None:
    for wrong in ("1e31", "-1", "0"):
        assert reason(changed(quote_volume=Decimal(wrong))) is Exclusion.BROKEN
        assert reason(changed(last=Decimal(wrong))) is Exclusion.BROKEN
    # 0.50004 % of the mid is more than 0.5 %.
    near = changed(bid=Decimal("9.974998"), ask=Decimal("10.025002"))
    assert reason(near) is Exclusion.SPREAD
    assert reason(changed(bid=Decimal("9.975"), ask=Decimal("10.025"))) is None


def test_a_person_may_keep_what_only_looks_leveraged_or_pegged() -> None:
    for base in ("PAXG", "PITBULL", "BTC3L"):
        assert reason(changed(base=base)) is not None
        assert reason(changed(base=base), UniverseRules(allow=(base,))) is None
        assert reason(changed(base=base), UniverseRules(allow=(f"{base}-USDT",))) is None
        assert reason(changed(base=base), UniverseRules(allow=(base,), deny=(base,))) is Exclusion.DENIED


@pytest.mark.parametrize(
    "name", ["BTC3L", "BTC5S", "ETHDOWN", "ETHUP", "XRPBULL", "XRPBEAR", "LINK2S", "BTC1S", "BTC10L", "1INCHUP"]
)
def test_leveraged_tokens_are_known_by_name(name: str) -> None:
    assert is_leveraged(name)


@pytest.mark.parametrize("name", ["JUP", "SYRUP", "UP", "BULL", "SOL", "PEPE", "S", "2Z", "0G", "XLM", "L3", "TAO"])
def test_names_that_only_look_leveraged_pass(name: str) -> None:
    assert not is_leveraged(name)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10**6)), max_size=25), st.integers(1, 6), st.randoms())
def test_the_choice_is_the_most_traded_whatever_the_order(
    facts: list[tuple[int, int]], count: int, order: random.Random
) -> None:
    markets = [changed(base=f"A{name:02d}", quote_volume=Decimal(volume)) for name, volume in dict(facts).items()]
    rules = UniverseRules(count=count, volume_min=Decimal(1000))
    found = get_top_crypto_pairs(markets, rules, now_ns=NOW)
    shuffled = list(markets)
    order.shuffle(shuffled)
    assert get_top_crypto_pairs(shuffled, rules, now_ns=NOW) == found
    assert len(found.chosen) + len(found.excluded) == len(markets)
    best = sorted((one.quote_volume or Decimal(0) for one in markets), reverse=True)[:count]
    assert [one.quote_volume for one in found.chosen] == [volume for volume in best if volume >= 1000]


def walk(seed: int, share: float, common: list[float]) -> dict[int, float]:
    own = random.Random(seed)
    price, closes = 100.0, {}
    for at, move in enumerate(common):
        price *= 1 + share * move + (1 - share) * own.gauss(0, 0.01)
        closes[at] = price
    return closes


def test_what_moves_with_a_better_one_is_out_and_the_next_takes_its_place() -> None:
    common = [random.Random(5).gauss(0, 0.01) for _ in range(1)] + [
        random.Random(at).gauss(0, 0.01) for at in range(200)
    ]
    closes = {"AAA-USDT": walk(1, 0.9, common), "BBB-USDT": walk(2, 0.9, common), "CCC-USDT": walk(3, 0.0, common)}
    markets = [
        changed(base=name, quote_volume=Decimal(10**6 - at)) for at, name in enumerate(("AAA", "BBB", "CCC", "DDD"))
    ]
    rules = UniverseRules(count=2, correlation_max=0.8)
    found = get_top_crypto_pairs(markets, rules, now_ns=NOW, closes=closes)
    assert found.instruments == ("AAA-USDT", "CCC-USDT")
    assert {one.instrument: one.reason for one in found.excluded} == {
        "BBB-USDT": Exclusion.CORRELATION, "DDD-USDT": Exclusion.RANK,
    }  # fmt: skip
    alone = get_top_crypto_pairs(markets[3:], rules, now_ns=NOW, closes=closes)
    assert alone.excluded[0].detail == "0 returns known, 30 needed"
    still = {**closes, "BBB-USDT": dict.fromkeys(closes["AAA-USDT"], 1.0)}
    found = get_top_crypto_pairs(markets[:2], rules, now_ns=NOW, closes=still)
    assert found.excluded[0].detail == "no correlation with AAA-USDT: one of them did not move"


def test_correlation_of_a_series_with_itself_and_its_mirror() -> None:
    one = log_returns({0: 1.0, 1: 2.0, 2: 1.5, 3: 3.0, 4: 0.0, 5: 2.0})
    assert sorted(one) == [1, 2, 3]
    # What was earned over a hole is no bar's return.
    assert sorted(log_returns({0: 1.0, 1: 2.0, 5: 9.0, 6: 9.5, 7: math.inf, 8: 1.0})) == [1, 6]
    assert correlation(one, one)[0] == pytest.approx(1)
    assert correlation(one, {time: -value for time, value in one.items()})[0] == pytest.approx(-1)
    assert correlation(one, dict.fromkeys(one, 1.0)) == (None, 3)


def test_the_spread_is_of_the_mid() -> None:
    assert spread_pct(GOOD) == Decimal("0.2000")


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"spread_max_pct": Decimal(-1)},
        {"volume_min": Decimal("1e31")},
        {"price_min": Decimal("NaN")},
        {"price_min": Decimal(2), "price_max": Decimal(2)},
        {"price_max": Decimal("1e999")},
        {"correlation_max": 0.0},
        {"correlation_max": math.nan},
        {"age_days_min": -1},
        {"quote": ""},
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        UniverseRules(**wrong)  # type: ignore[arg-type]


def test_mexcs_facts_give_its_most_traded_markets(tmp_path: Path) -> None:
    path = data_file("mexc_spot/mexc_spot_market_meta_2026-04-18.csv")
    found = get_top_crypto_pairs(facts_of_file(path), UniverseRules(count=3), now_ns=NOW)
    assert found.instruments == ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    assert len(found.chosen) + len(found.excluded) == 457
    assert {one.reason for one in found.excluded} >= {Exclusion.SPREAD, Exclusion.STABLECOIN, Exclusion.RANK}
    tiny = {market.instrument: market.last for market in facts_of_file(path)}
    assert any(last is not None and last < Decimal("1e-8") for last in tiny.values())


def csv_of(tmp_path: Path) -> Path:
    path = tmp_path / "markets.csv"
    rows = [f"A{at}USDT,1,10,9.99,10.01,{10**6 + at}" for at in range(4)]
    path.write_text(
        "\n".join(["symbol,status,last_price,bid_price,ask_price,quote_volume_24h", *rows, "B0USDT,2,1,1,1,1"])
    )
    return path


def test_the_command_prints_the_choice_and_every_reason(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["top", "--from-file", str(csv_of(tmp_path)), "-n", "2", "--json"])
    answer = msgspec.json.decode(result.stdout)
    assert answer["assets"] == ["A3-USDT", "A2-USDT"]
    assert [one["reason"] for one in answer["excluded"]] == ["beyond_the_top", "beyond_the_top", "not_trading"]


def test_a_pinned_list_is_a_configuration_and_its_predecessor_is_kept(tmp_path: Path) -> None:
    path, facts = tmp_path / "universe.toml", str(csv_of(tmp_path))
    CliRunner().invoke(app, ["top", "--from-file", facts, "-n", "2", "--save", str(path)])
    assert load_settings(path, environ={}).stack.assets == ("A3-USDT", "A2-USDT")
    before = path.read_text()
    CliRunner().invoke(app, ["top", "--from-file", facts, "-n", "3", "--save", str(path)])
    assert load_settings(path, environ={}).stack.assets == ("A3-USDT", "A2-USDT", "A1-USDT")
    assert path.with_name("universe.toml.before").read_text() == before
    before = path.read_text()
    with pytest.raises(InputError, match="at least 2 markets, 0 pass"):
        pin(path, Universe((), ()))
    assert path.read_text() == before


def test_a_list_in_another_quote_asset_says_so(tmp_path: Path) -> None:
    facts, path = csv_of(tmp_path), tmp_path / "universe.toml"
    facts.write_text(facts.read_text().replace("USDT", "USDC"))
    result = CliRunner().invoke(app, ["top", "--from-file", str(facts), "--quote", "usdc", "--save", str(path)])
    assert result.exit_code == 0
    stack = load_settings(path, environ={}).stack
    assert (stack.quote_asset, stack.assets[0]) == ("USDC", "A3-USDC")


@pytest.mark.parametrize("name", ["none/universe.toml", "universe.txt", "folder.toml"])
def test_a_place_that_cannot_hold_a_list_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    result = CliRunner().invoke(app, ["top", "--from-file", str(csv_of(tmp_path)), "--save", str(tmp_path / name)])
    assert isinstance(result.exception, InputError)
    assert f"--save {tmp_path / name}: " in str(result.exception)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_configuration_names_a_pinned_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = tmp_path / "list" / "universe.toml"
    pinned.parent.mkdir()
    CliRunner().invoke(app, ["top", "--from-file", str(csv_of(tmp_path)), "-n", "2", "--save", str(pinned)])
    config = pinned.with_name("my.toml")
    config.write_text('[stack]\nassets = "universe.toml"\ninitial_usdt = 500\n')
    settings = load_settings(config, environ={})
    assert settings.stack.assets == ("A3-USDT", "A2-USDT")
    assert settings.stack.initial_usdt == 500
    # What the services are started with is the list itself: it cannot change under them.
    assert settings.tree["stack"] == {"assets": ["A3-USDT", "A2-USDT"], "initial_usdt": 500}
    monkeypatch.chdir(pinned.parent)
    assert load_settings(overrides=["stack.assets=universe.toml"], environ={}).stack.assets == ("A3-USDT", "A2-USDT")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_settings(overrides=["stack.assets=none.toml"], environ={})
    pinned.write_text('[stack]\nassets = "universe.toml"\n')
    with pytest.raises(ConfigError, match="universe top --save"):
        load_settings(config, environ={})


def test_mexcs_wide_spreads_and_tiny_prices_are_read_as_they_are() -> None:
    markets = facts_of_file(data_file("mexc_spot/mexc_spot_market_meta_2026-04-18.csv"))
    found = get_top_crypto_pairs(markets, UniverseRules(count=400), now_ns=NOW)
    chosen = {one.instrument for one in found.chosen}
    reasons = {one.instrument: one.reason for one in found.excluded}
    assert reasons["GT-USDT"] is Exclusion.SPREAD
    assert all(one.spread_pct <= UniverseRules().spread_max_pct for one in found.chosen)
    tiny = [one for one in markets if one.last is not None and one.last < Decimal("1e-6")]
    assert len(tiny) >= 5
    assert all(f"{one.last:f}" == f"{Decimal(str(one.last)):f}" and "E" not in f"{one.last:f}" for one in tiny)
    assert chosen.isdisjoint(reasons)


def test_a_file_with_a_market_twice_or_an_age_that_is_none_is_refused(tmp_path: Path) -> None:
    path = csv_of(tmp_path)
    path.write_text(path.read_text() + "\nA0USDT,1,10,9.99,10.01,7")
    with pytest.raises(InputError, match="line 7: A0-USDT stands there twice"):
        facts_of_file(path)
    header = "symbol,last_price,bid_price,ask_price,quote_volume_24h,listed_at\n"
    path.write_text(f"{header}A0USDT,10,9.99,10.01,1000000,yesterday\n")
    with pytest.raises(InputError, match="line 2: listed_at yesterday"):
        facts_of_file(path)
    path.write_text(f"{header}A0USDT,10,9.99,10.01,1000000,2025-01-31\nA1USDT,10,9.99,10.01,900000,\n")
    arguments = ["top", "--from-file", str(path), "--json", "--min-age-days"]
    answer = msgspec.json.decode(CliRunner().invoke(app, [*arguments, "30"]).stdout)
    assert answer["assets"] == ["A0-USDT"]
    assert [one["reason"] for one in answer["excluded"]] == ["listing_age"]


def test_a_file_without_the_facts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("symbol,last_price\nBTCUSDT,1\n")
    with pytest.raises(InputError, match="lacks the columns ask_price, bid_price, quote_volume_24h"):
        facts_of_file(path)
