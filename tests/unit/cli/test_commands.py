"""What the commands make of messages: pure parts, and the command line's manners."""

import json
import os
import signal
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from services.cli import __main__ as door
from services.cli import application as command_line
from services.cli.commands.account import account_view, latest_orders
from services.cli.commands.journal import entries, entry_line
from services.cli.commands.operate import refuse_mixed_schemas
from services.cli.commands.schema import SUBJECTS, schema_document
from services.cli.commands.status import Heard, duration, make_report, money_words
from services.cli.picture import Picture, fold, is_finished, laggards
from services.cli.runfile import RunFile
from services.cli.supervisor.policy import RestartPolicy
from shared import lifecycle
from shared.bus import subjects
from shared.errors import InputError
from shared.messages import (
    AccountSnapshot,
    Balance,
    BarsClosed,
    Heartbeat,
    OrderState,
    Position,
    Progress,
    RiskState,
    TradingState,
    schema_hash,
)
from shared.messages.codec import message_types
from tests.unit.cli.test_summary import account, decision, event, refusal

EVERYBODY = ("risk", "execution")


def closed(step: int, *, final: bool = False) -> BarsClosed:
    return BarsClosed("sandbox", "1h", step * 100, ("A-USDT",), (), step, final)


def picture_of(*messages: object) -> Picture:
    picture = Picture()
    for message in messages:
        picture = fold(picture, message)  # type: ignore[arg-type]
    return picture


def test_run_is_finished_only_when_everybody_has_done_the_final_step() -> None:
    risk, execution = Progress("risk", "sandbox", 300), Progress("execution", "sandbox", 200)
    assert not is_finished(picture_of(closed(3), risk), EVERYBODY)
    almost = picture_of(risk, execution, closed(3, final=True))
    assert laggards(almost, EVERYBODY) == ("execution",)
    assert not is_finished(almost, EVERYBODY)
    assert is_finished(fold(almost, Progress("execution", "sandbox", 300)), EVERYBODY)


def test_older_step_does_not_replace_a_newer() -> None:
    assert picture_of(closed(3, final=True), closed(2)).final_close_ns == 300


def test_picture_counts_plans_once_and_shows_what_fired() -> None:
    picture = picture_of(decision(1), decision(2, "upside", "p"), decision(3, "upside", "p"), event(1), refusal())
    assert (picture.rebalances, picture.fills, picture.refusals) == (1, 1, 1)
    assert picture.last_action == decision(2, "upside", "p")
    state = RiskState(TradingState.HALTED, "me", "test", "c", 1)
    assert fold(picture, state).trading_state is TradingState.HALTED


def test_every_message_type_has_a_subject_and_a_schema() -> None:
    document = schema_document()
    named = {name for names in SUBJECTS.values() for name in names}
    assert named == {kind.__name__ for kind in message_types()}
    assert named <= set(document["$defs"])  # type: ignore[call-overload]
    assert document["schema_hash"] == schema_hash()


@pytest.mark.parametrize(
    "subject",
    [
        subjects.bar("1h", "v", "A-USDT"),
        subjects.bars_closed("1h", "v"),
        subjects.order_intent("s", "v", "A-USDT"),
        subjects.order_approved("v", "A-USDT"),
        subjects.order_refused("s"),
        subjects.order_event("s", "v", "A-USDT"),
        subjects.account("v"),
        subjects.decision("rebalancer", "s"),
        subjects.command("risk", "halt"),
        subjects.heartbeat("risk", "0"),
        subjects.progress("risk"),
        subjects.dead_letter("risk"),
        subjects.instrument("v", "A-USDT"),
        subjects.signal("s", "A-USDT"),
        subjects.trade("v", "A-USDT"),
        subjects.RISK_STATE,
    ],
)
def test_every_subject_is_described_once(subject: str) -> None:
    assert len([pattern for pattern in SUBJECTS if subjects.matches(pattern, subject)]) == 1


def test_order_stands_as_its_newest_event_says() -> None:
    older = msgspec.structs.replace(event(1), state=OrderState.ACCEPTED, filled_quantity=Decimal(0))
    shown = latest_orders([older, event(2), event(1)])
    assert [(order.client_order_id, order.state, order.is_open) for order in shown] == [
        ("c2", "filled", False),
        ("c1", "filled", False),
    ]
    assert latest_orders([older])[0].average_price is None


def test_holdings_are_valued_by_what_execution_said() -> None:
    snapshot = msgspec.structs.replace(
        account("30.5"),
        positions=(Position("H-USDT", Decimal(3), None, Decimal(8), Decimal(25), Decimal(0)),),
        balances=(*account("1").balances, Balance("X", Decimal(1), Decimal(0))),
    )
    assert isinstance(snapshot, AccountSnapshot)
    worth = {holding.asset: holding.value_usdt for holding in account_view(snapshot).balances}
    assert worth == {"H": Decimal(25), "USDT": Decimal("5.5"), "X": None}


def test_journal_shows_actions_and_refusals_by_market_time() -> None:
    messages = [decision(1), decision(4, "upside", "p"), refusal(), refusal(), event(1)]
    assert [entry.action for entry in entries(messages, everything=False)] == ["refused: balance", "upside"]
    assert [entry.action for entry in entries(messages, everything=True)] == ["none", "refused: balance", "upside"]
    shown = json.loads(msgspec.json.encode(entries([decision(4, "upside", outcome='{"a": 1}')], everything=False)))
    assert (shown[0]["inputs"], shown[0]["outcome"]) == ({}, {"a": 1})
    line = entry_line(entries([refusal()], everything=False)[0])
    assert line == "1970-01-01T00:00:03Z  risk        refused: balance H-USDT\n    needs 5, has 1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (200, "3m 20s"), (7_500, "2h 5m"), (277_200, "3d 5h")]
)
def test_durations_are_readable(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_policy_knows_the_exit_code_of_a_bad_configuration() -> None:
    assert RestartPolicy().configuration_code == lifecycle.EXIT_CONFIG
    assert RestartPolicy().disk_full_code == lifecycle.EXIT_DISK_FULL


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    for name in [name for name in os.environ if name.startswith("CASCADE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("sys.argv", ["cascade", *arguments])
    # Logging belongs to the process, which here is the test runner's.
    monkeypatch.setattr(command_line, "configure_logs", lambda *_, **__: None)
    with pytest.raises(SystemExit) as end:
        command_line.main()
    return int(end.value.code or 0)


def test_no_stack_means_exit_code_three(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    for command in ("status", "halt", "orders", "balances", "journal", "stop"):
        assert run_command(monkeypatch, command, "--state-dir", str(tmp_path)) == 3
        answer = capsys.readouterr()
        assert answer.out == ""
        assert "no stack runs in" in answer.err
        assert "Traceback" not in answer.err


def test_bad_setting_means_exit_code_two_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "up", "--set", "rebalancer.downside_threshold=-1") == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("cascade: rebalancer")
    assert "downside_threshold" in answer.err
    assert answer.err.count("\n") == 1


def test_a_state_directory_that_cannot_be_used_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "within"):
        assert run_command(monkeypatch, "up", "--state-dir", str(place)) == 2
        answer = capsys.readouterr()
        assert f"the state directory {place} cannot be used" in answer.err
        assert "--state-dir" in answer.err
        assert answer.err.count("\n") == 1


def test_a_full_disk_behind_the_output_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command_line, "app", full)
    assert run_command(monkeypatch, "schema") == 1
    assert capsys.readouterr().err == "cascade: [Errno 28] No space left on device\n"


def test_the_version_names_the_schema(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith(f"cascade {version('cascade-trader')}")
    assert run_command(monkeypatch, "-V") == 0
    assert schema_hash() in capsys.readouterr().out


def test_loading_the_commands_leaves_ctrl_c_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(command_line, "main", lambda: seen.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    door.main()
    assert seen == [before]


def test_resume_without_a_reason_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "resume") == 2
    assert "--reason" in capsys.readouterr().err


def test_mixed_builds_are_named_before_real_money_is_resumed() -> None:
    same = Heartbeat("risk", "0", "b", schema_hash(), 7, True, "", 5, 9)
    other = Heartbeat("execution", "0", "b", "0" * 12, 8, True, "", 5, 9)
    refuse_mixed_schemas([same])
    with pytest.raises(InputError, match=r"execution: another schema .* Stop the stack"):
        refuse_mixed_schemas([same, other])


def test_schema_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(monkeypatch, "schema", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["subjects"]["acct.*"] == {"anyOf": [{"$ref": "#/$defs/AccountSnapshot"}]}


def test_configuration_can_be_checked_without_a_stack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(monkeypatch, "config", "show", "--json", "--set", "rebalancer.cooldown_minutes=60") == 0
    assert json.loads(capsys.readouterr().out)["rebalancer"]["cooldown_minutes"] in (60, "60")
    assert run_command(monkeypatch, "config", "check", "--assets", "HUSDT") == 2


def test_shown_configuration_is_a_configuration_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    option = ("--set", "risk.open_orders_max=7")
    assert run_command(monkeypatch, "config", "show", *option) == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    assert run_command(monkeypatch, "config", "show", "--json", *option) == 0
    values = json.loads(capsys.readouterr().out)
    assert run_command(monkeypatch, "config", "show", "--json", "--config", str(tmp_path / "shown.toml")) == 0
    assert numbers(json.loads(capsys.readouterr().out)) == numbers(values)


def test_example_configuration_is_the_default_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = Path(__file__).parents[3] / "deploy/config/example.toml"
    assert run_command(monkeypatch, "config", "show", "--json") == 0
    default = json.loads(capsys.readouterr().out)
    assert run_command(monkeypatch, "config", "show", "--json", "--config", str(example)) == 0
    assert numbers(json.loads(capsys.readouterr().out)) == numbers(default)


def numbers(value: object) -> object:
    """Return the tree with every number and every text that is one as a Decimal: 0.40 and 0.4 are the same."""
    if isinstance(value, dict):
        return {key: numbers(one) for key, one in value.items()}
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return value


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("sandbox", "mexc sandbox exchange, no real money"),
        ("paper", "mexc, real prices, paper money"),
        ("live", "mexc, REAL MONEY"),
        ("replay", "synthetic market, paper money"),
    ],
)
def test_status_says_whose_money_it_is(mode: str, words: str) -> None:
    run = RunFile(1, 1, "b", "s", mode, "mexc", "15s", "/s", "/s/settings.json", "nats://h:1", "/k", "", None, ())
    assert money_words(make_report(run, Heard(), bus_answers=True, now_ns=2)) == words
