"""`cascade rebalance plan`: answers in JSON, mistakes in a sentence with line, field and fix."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.rebalance import app
from shared.testing.data import data_file

UPSIDE = (
    '{"prices": {"A": 2, "B": 1, "C": 1}, "quantities": {"A": 1000, "B": "1000", "C": 1000}, "usdt": 1000,'
    ' "minutes_since_rebalance": {}}'
)
OFF = ["--set", "position_limit=1", "--set", "usdt_buffer=0"]


def ask(text: str | bytes, *options: str) -> Result:
    return CliRunner().invoke(app, ["plan", "--state", "-", *options], input=text)


def refused(text: str | bytes, *options: str) -> str:
    result = ask(text, *options, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "cascade rebalance plan: " in result.stderr
    return result.stderr


def test_json_answer_has_exactly_the_documented_fields() -> None:
    result = ask(UPSIDE, "--json", *OFF, "--set", "fee_rate=0")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    answer = json.loads(line)
    assert list(answer) == ["trigger", "legs", "skipped", "notes"]
    assert answer["trigger"] == {"asset": "A", "direction": "upside", "deviation": 0.5}
    assert [{k: v for k, v in leg.items() if k != "reason"} for leg in answer["legs"]] == [
        {"asset": "A", "side": "sell", "quantity": 200.0, "notional_usdt": 400.0},
        {"asset": "B", "side": "buy", "quantity": 140.0, "notional_usdt": 140.0},
        {"asset": "C", "side": "buy", "quantity": 140.0, "notional_usdt": 140.0},
    ]
    assert all(leg["reason"] for leg in answer["legs"])
    assert answer["skipped"] == []
    assert answer["notes"]


def test_all_known_answers_through_the_command() -> None:
    path = data_file("oracles/cascade/plans.jsonl")
    result = CliRunner().invoke(app, ["plan", "--state", str(path), "--json", *OFF])
    assert result.exit_code == 0
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == len(cases) == 300
    for case, answer in zip(cases, answers, strict=True):
        if case["trigger"] is None:
            assert answer["trigger"] is None
        else:
            assert answer["trigger"] == case["trigger"] | {
                "deviation": pytest.approx(case["trigger"]["deviation"], rel=1e-12)
            }
        if "legs" in case:
            got = [(leg["asset"], leg["side"]) for leg in answer["legs"]]
            assert got == [(leg["asset"], leg["side"]) for leg in case["legs"]]


def test_quiet_portfolio_says_why_nothing_is_done() -> None:
    answer = json.loads(ask(UPSIDE.replace('"A": 2', '"A": 1.2'), "--json").stdout)
    assert answer["trigger"] is None
    assert answer["legs"] == []
    assert "farthest: A +12.5 % of +40.0 %" in answer["notes"]


def test_numbers_are_read_exactly_as_written() -> None:
    at = '{"prices":{"A":"1.4","B":0.6},"quantities":{"A":1,"B":1},"usdt":0,"minutes_since_rebalance":{}}'
    rules = [*OFF, "--set", "downside_threshold=0.9", "--json"]
    assert json.loads(ask(at, *rules).stdout)["trigger"] is None
    above = at.replace('"1.4"', "1.4000000000000000000000001")
    assert json.loads(ask(above, *rules).stdout)["trigger"]["asset"] == "A"
    cooling = above.replace('"minutes_since_rebalance":{}', '"minutes_since_rebalance":{"A":29.999999999999999999999}')
    assert json.loads(ask(cooling, *rules).stdout)["trigger"] is None


def test_initial_allocation_has_no_trigger_but_legs() -> None:
    empty = '{"prices":{"A":1,"B":1},"quantities":{"A":0,"B":0},"usdt":1000,"minutes_since_rebalance":{}}'
    answer = json.loads(ask(empty, "--json").stdout)
    assert answer["trigger"] is None
    assert [leg["notional_usdt"] for leg in answer["legs"]] == [350.0, 350.0]


def test_table_shows_holdings_orders_and_notes() -> None:
    result = ask(UPSIDE + "\n\n" + UPSIDE, *OFF)
    assert result.exit_code == 0
    for words in ("Portfolio 2", "upside of A (+50.0%)", "sell", "estimated fees", "+50.0 % of +40.0 %"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", ["line 2", "no JSON at column 1"]),
        ("[1, 2]", ["line 2", "not a JSON object"]),
        ("null", ["line 2", "null"]),
        ("{}", ["line 2", "prices is missing", "add"]),
        (UPSIDE.replace('"usdt"', '"usd"'), ["line 2", "usdt is missing"]),
        (UPSIDE.replace('"minutes_since_rebalance"', '"minutes"'), ["minutes_since_rebalance is missing", "{}"]),
        (UPSIDE.replace('"A": 2', '"A": NaN'), ["line 2", "prices.A", "finite"]),
        (UPSIDE.replace('"A": 2', '"A": "NaN"'), ["line 2", "prices.A", "finite"]),
        (UPSIDE.replace('"A": 2', '"A": Infinity'), ["line 2", "prices.A", "finite"]),
        (UPSIDE.replace('"A": 2', '"A": -2'), ["line 2", "prices.A is -2", "below zero"]),
        (UPSIDE.replace('"A": 2', '"A": 0'), ["line 2", "prices.A is zero"]),
        (UPSIDE.replace('"A": 2', '"A": null'), ["line 2", "prices.A is null"]),
        (UPSIDE.replace('"A": 2', '"A": true'), ["line 2", "prices.A is true"]),
        (UPSIDE.replace('"A": 2', '"A": "two"'), ["line 2", "prices.A is 'two'"]),
        (UPSIDE.replace('"A": 2', '"A": 1e400'), ["line 2", "prices.A", "plausible"]),
        (UPSIDE.replace('"A": 2', '"A": 1e9999999999999999999999'), ["line 2", "beyond any size"]),
        (UPSIDE.replace('"A": 2', '"A": 2, "A": 3'), ["line 2", "A is given twice"]),
        (UPSIDE.replace('"A": 2', '"A": 2, "Z": 3'), ["line 2", "quantities.Z is missing"]),
        (UPSIDE.replace('"A": 1000', '"A": 1000, "Z": 3'), ["line 2", "price of Z is missing"]),
        (UPSIDE.replace('"A": 1000', '"A": -1'), ["line 2", "quantities.A", "below zero"]),
        (UPSIDE.replace('"usdt": 1000', '"usdt": -1'), ["line 2", "usdt is -1"]),
        (UPSIDE.replace('"usdt": 1000', '"usdt": []'), ["line 2", "usdt is a list"]),
        (UPSIDE.replace("{}", '{"Z": 1}'), ["line 2", "minutes_since_rebalance.Z"]),
        (UPSIDE.replace("{}", '{"A": -1}'), ["line 2", "minutes_since_rebalance.A", "below zero"]),
        ('{"prices":{},"quantities":{},"usdt":1,"minutes_since_rebalance":{}}', ["line 2", "names no asset"]),
        ("[" * 100_000, ["line 2"]),
    ],
)
def test_bad_line_is_refused_and_nothing_is_printed(line: str, words: list[str]) -> None:
    told = refused(f"{UPSIDE}\n{line}\n{UPSIDE}")
    assert [word for word in words if word not in told] == []


@pytest.mark.parametrize("text", ["", "\n \n", b"\xff\xfe\x00"])
def test_input_without_any_portfolio_is_refused(text: str | bytes) -> None:
    assert "empty" in refused(text) or "UTF-8" in refused(text)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", "--state", str(tmp_path / "none.jsonl"), "--json"])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("position_limt=1", ["position_limt", "did you mean position_limit?"]),
        ("colour=red", ["colour is no rule", "known:"]),
        ("position_limit", ["key=value"]),
        ("position_limit=", ["key=value"]),
        ("sell_percentage=50", ["sell_percentage", "0.5 for 50 %"]),
        ("upside_threshold=-0.4", ["upside_threshold", "more than 0"]),
        ("upside_threshold=nan", ["upside_threshold", "finite"]),
        ("fee_rate=cheap", ["fee_rate=cheap", "decimal"]),
        ("enabled=perhaps", ["enabled=perhaps", "bool"]),
        ("assets=A,Z", ["line 1", "prices.Z is missing"]),
    ],
)
def test_bad_setting_is_refused(setting: str, words: list[str]) -> None:
    told = refused(UPSIDE, "--set", setting)
    assert [word for word in words if word not in told] == []


def test_setting_given_twice_is_refused() -> None:
    assert "given twice" in refused(UPSIDE, "--set", "fee_rate=0", "--set", "fee_rate=0.1")


def test_basket_setting_leaves_other_assets_alone() -> None:
    answer = json.loads(ask(UPSIDE, "--set", "assets=A, B", "--json", *OFF).stdout)
    assert answer["trigger"] is None
