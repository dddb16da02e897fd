"""`cascade rebalance preview | plan | now | history`: what is shown, what is asked, what is refused."""

import json
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from services.cli import rebalance_live
from services.cli.rebalance import app
from services.cli.rebalance_history import plans_of
from services.cli.runfile import RunFile
from services.rebalancer.config import RebalanceConfig
from services.rebalancer.core import Params, RebalancerState, Status, status_of
from services.rebalancer.core.events import Holdings
from shared.messages import CommandReply, DecisionRecord
from shared.testing.fake_venue import instrument

D = Decimal
STATE = (
    '{"prices": {"A": 2, "B": 1, "C": 1}, "quantities": {"A": 1000, "B": 1000, "C": 1000}, "usdt": 1000,'
    ' "minutes_since_rebalance": {}}'
)
ASSETS = ("A-USDT", "B-USDT")


def ask(*words: str, text: str = STATE) -> Result:
    return CliRunner().invoke(app, list(words), input=text)


def answer(*words: str, text: str = STATE) -> dict:
    result = ask(*words, "--json", text=text)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_preview_shows_drift_orders_cost_and_weights_afterwards() -> None:
    shown = answer("preview", "--state", "-", "--set", "usdt_reserve=0.1", "--slippage", "0.001")
    a, b, _ = shown["rows"]
    assert (a["asset"], a["action"], a["weight"], a["target"], a["drift"]) == ("A", "sell", 0.4, 0.3, 0.1)
    assert a["drift_relative"] == pytest.approx(1 / 3)
    assert (a["amount_usdt"], a["cost_usdt"]) == (500, pytest.approx(500 * 0.002))
    assert (b["action"], b["amount_usdt"]) == ("buy", pytest.approx(499.75))
    after = [row["weight_after"] for row in shown["rows"]] + [shown["usdt_weight_after"]]
    assert sum(after) == pytest.approx(1)
    assert after == pytest.approx([0.3, 0.3, 0.3, 0.1], abs=0.001)
    assert shown["cost_usdt"] == pytest.approx(sum(row["cost_usdt"] for row in shown["rows"]))
    assert shown["alone"] == "upside A"
    assert shown["source"] == "equal weights"


def test_preview_for_people_has_every_column_and_the_skip_reason() -> None:
    state = STATE.replace('"B": 1000', '"B": 1740')
    result = ask("preview", "--state", "-", "--set", "trigger=hybrid", "--set", "locked_assets=C", text=state)
    assert result.exit_code == 0
    for heading in ("quantity", "weight", "target", "drift", "of target", "band", "action", "cost", "after"):
        assert heading in result.stdout
    assert "locked: never traded" in result.stdout
    dusty = STATE.replace('"B": 1000', '"B": 1090').replace('"A": 1000', '"A": 500')
    said = ask("preview", "--state", "-", "--set", "min_order_value=200", text=dusty).stdout
    assert "under the minimum order of 200.00 USDT" in said


def test_preview_of_a_warming_estimator_says_how_far_it_is() -> None:
    options = ("--set", "trigger=calendar", "--set", "target_mode=inverse_volatility", "--set", "lookback_bars=4")
    shown = answer("preview", "--state", "-", *options)
    assert shown["rows"] == []
    assert "1 of 5 bars were seen" in shown["problems"][0]
    history = ', "history": {"A": [1, 2, 1, 2], "B": [1, 1.1, 1, 1.1], "C": [1, 1.1, 1, 1.1]}}'
    shown = answer("preview", "--state", "-", *options, text=STATE[:-1] + history)
    assert [row["target"] for row in shown["rows"]] == pytest.approx([0.0544, 0.3228, 0.3228], abs=0.02)


def test_preview_weighs_by_volumes_that_the_line_tells() -> None:
    options = ("--set", "trigger=calendar", "--set", "target_mode=volume", "--set", "lookback_bars=2")
    volumes = ', "volumes": {"A": [9, 1, 1], "B": [9, 1, 2], "C": [9, 2, 1]}}'
    shown = answer("preview", "--state", "-", *options, "--set", "usdt_reserve=0.2", text=STATE[:-1] + volumes)
    assert [row["target"] for row in shown["rows"]] == pytest.approx([0.2, 0.3, 0.3])


def test_plan_knows_the_modes_too() -> None:
    options = ["--set", "trigger=relative_band", "--set", "target_mode=fixed", "--set", "usdt_reserve=0.2"]
    plan = answer("plan", "--state", "-", *options, "--set", "target_weights=A:0.4,B:0.2,C:0.2")
    assert plan["trigger"] is None
    plan = answer("plan", "--state", "-", *options, "--set", "target_weights=A:0.2,B:0.3,C:0.3")
    assert plan["trigger"] == {"asset": "A", "direction": "rebalance", "deviation": 1.0}
    assert [(leg["asset"], leg["side"]) for leg in plan["legs"]] == [("A", "sell"), ("B", "buy"), ("C", "buy")]


def test_weights_file_is_read_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "caps.csv"
    path.write_text("# of yesterday\nA,1\nB,2\nC,1\n")
    options = ("--set", "trigger=calendar", "--set", "target_mode=market_cap", "--set", f"weights_file={path}")
    shown = answer("preview", "--state", "-", *options, "--set", "usdt_reserve=0.2")
    assert [row["target"] for row in shown["rows"]] == [0.2, 0.4, 0.2]


@pytest.mark.parametrize(
    ("options", "text", "fix"),
    [
        (["--set", "target_mode=fixed"], STATE, "needs another trigger"),
        (["--set", "trigger=weekly"], STATE, "trigger"),
        (["--set", "target_mode=fixed", "--set", "trigger=calendar"], STATE, "target_weights must be given"),
        (["--set", "weights_file=nowhere.json"], STATE, "name a file"),
        (["--set", "trigger=calendar"], STATE[:-1] + ', "history": {"A": [1]}}', "history leaves out B"),
        (
            ["--set", "trigger=calendar"],
            STATE[:-1] + ', "history": {"A": [1], "B": [1, 2], "C": [1]}}',
            "lists of different lengths",
        ),
        (["--set", "trigger=calendar"], STATE[:-1] + ', "history": {"A": 1}}', "give a list of numbers"),
        (["--slippage", "5 %"], STATE, "--slippage"),
    ],
)
def test_mistake_ends_the_preview_with_a_sentence(options: list[str], text: str, fix: str) -> None:
    result = ask("preview", "--state", "-", *options, text=text)
    assert result.exit_code == 2
    assert fix in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


class Stack:
    """Answer commands as a running rebalancer would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, ok: bool = True) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.ok = ok
        monkeypatch.setattr(rebalance_live, "find_running", lambda _: None)
        monkeypatch.setattr(rebalance_live, "_send", self.send)

    def send(self, _: RunFile, verb: str, reason: str, correlation_id: str | None = None) -> CommandReply:
        self.asked.append((verb, reason, correlation_id))
        if verb == "status":
            return CommandReply(ok=True, detail="", correlation_id="", result=self.status())
        return CommandReply(ok=self.ok, detail="said so", correlation_id=correlation_id or "", result="{}")

    def status(self) -> str:
        config = RebalanceConfig(assets=ASSETS)
        params = Params(config, "sandbox", {asset: instrument(asset) for asset in ASSETS})
        state = RebalancerState(last_close_ns=1, closes=dict.fromkeys(ASSETS, D(1)))
        holdings = Holdings(1, {"A-USDT": D(3000), "B-USDT": D(1000)}, D(1000))
        status: Status = status_of(state, params, holdings, "active")
        return msgspec.json.encode(status).decode()


def test_now_shows_the_preview_and_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(monkeypatch)
    result = ask("now", text="n\n")
    assert result.exit_code == 1
    assert "A-USDT" in result.stdout
    assert [verb for verb, _, _ in stack.asked] == ["status"]
    result = ask("now", text="y\n")
    assert result.exit_code == 0
    assert stack.asked[-1] == ("rebalance", "asked by the operator", None)


def test_now_with_yes_asks_nobody_and_names_reason_and_id(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(monkeypatch)
    result = ask("now", "--yes", "--reason", "drift", "--id", "x-1", "--json", text="")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"ok": True, "verb": "rebalance", "detail": "said so", "correlation_id": "x-1"}
    assert stack.asked[-1] == ("rebalance", "drift", "x-1")


def test_refusal_of_the_rebalancer_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    Stack(monkeypatch, ok=False)
    for words in (("now", "--yes"), ("pause",), ("resume",)):
        result = ask(*words)
        assert result.exit_code == 1
        assert "said so" in result.stdout


def test_preview_without_a_state_is_the_running_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    Stack(monkeypatch)
    shown = answer("preview")
    assert [row["weight"] for row in shown["rows"]] == [0.6, 0.2]
    assert [row["action"] for row in shown["rows"]] == ["sell", "buy"]
    refused = ask("preview", "--set", "usdt_reserve=0.1")
    assert refused.exit_code == 2
    assert "--set needs --state" in refused.stderr


def record(number: int, plan: str, action: str, outcome: str = "{}") -> DecisionRecord:
    return DecisionRecord(
        f"d{number}", "rebalancer", "cascade", "v", action, number, plan, "{}", outcome, (f"n{number}",)
    )


def test_history_shows_each_plan_once_with_the_report_of_its_end() -> None:
    report = {"plan_id": "p", "orders": 4, "turnover_usdt": "100", "fees_usdt": "0.1", "slippage_usdt": "0.2",
              "equity_usdt": "5", "hold_usdt": "4", "advantage": "0.25"}  # fmt: skip
    over = json.dumps({"decision": {"report": report}})
    records = [
        record(1, "q0", "none"),
        record(2, "p", "upside"),
        record(3, "p", "upside", over),
        record(3, "p", "upside", over),
        record(4, "w", "wait"),
        record(5, "q", "rebalance", '{"decision": {}}'),
    ]
    first, second = plans_of(records)
    assert (first.plan_id, first.why, first.orders, first.advantage) == ("p", "n2", 4, D("0.25"))
    assert first.cost_usdt == D("0.3")
    assert (second.plan_id, second.action, second.orders, second.cost_usdt) == ("q", "rebalance", None, None)
