"""`cascade sandbox fault | market | ledger`: which venue they mean, and what they refuse before they ask it."""

import asyncio
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli import sandbox
from services.cli.runfile import STATE_ROOT, RunFile, StateLock, write_run
from services.cli.stack import write_settings
from services.cli.stdin import stdin_ends
from shared.config import Settings
from shared.errors import InputError


def run_file(state_dir: Path, mode: str) -> RunFile:
    settings_file = state_dir / "settings.json"
    table = {"sandbox_exchange": {"admin_port": 9_611}} if mode == "sandbox" else {}
    write_settings(settings_file, Settings({"stack": {"mode": mode}, **table}))
    return RunFile(
        supervisor_pid=1,
        started_at_ns=1,
        build="b",
        schema_hash="s",
        mode=mode,
        venue="mexc",
        timeframe="15s",
        state_dir=str(state_dir),
        settings_file=str(settings_file),
        nats_url="nats://127.0.0.1:1",
        keys_dir="",
        dashboard_url="",
        replay=None,
        services=(),
    )


@pytest.mark.parametrize(("mode", "url"), [("sandbox", "http://127.0.0.1:9611/admin"), ("replay", None)])
def test_the_running_stacks_venue_is_meant_where_none_is_named(
    mode: str, url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state_dir = tmp_path / STATE_ROOT / "run"
    state_dir.mkdir(parents=True)
    lock = StateLock(state_dir)
    assert lock.acquire()
    write_run(run_file(state_dir, mode))
    try:
        if url is not None:
            assert sandbox.stack_admin() == url
        else:
            with pytest.raises(InputError, match="mode replay"):
                sandbox.stack_admin()
    finally:
        lock.release()


def test_without_a_stack_the_address_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--admin"):
        sandbox.stack_admin()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fault", "bogus"], "timeout_after"),
        (["fault", "clock_skew"], "--parameter SECONDS"),
        (["market", "HUSDT", "redenominate"], "--factor"),
        (["market", ",", "pause"], "one market"),
    ],
)
def test_a_request_that_cannot_work_is_refused_with_the_fix(arguments: list[str], words: str) -> None:
    ended = CliRunner().invoke(sandbox.app, [*arguments, "--admin", "http://127.0.0.1:1/admin"])
    assert isinstance(ended.exception, InputError)
    assert words in str(ended.exception)


def test_the_names_of_actions_are_listed_when_one_is_wrong() -> None:
    ended = CliRunner().invoke(sandbox.app, ["market", "HUSDT", "explode"])
    assert ended.exit_code == 2
    assert "redenominate" in ended.output


@pytest.mark.parametrize("text", ["HUSDT", "H-USDT", "h/usdt"])
def test_a_market_may_be_written_in_any_way(text: str) -> None:
    assert sandbox.one_market(text) == "HUSDT"


@pytest.mark.parametrize("text", ["", "HUSDT,TAOUSDT", "hello"])
def test_what_is_not_one_market_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="for example"):
        sandbox.one_market(text)


@pytest.mark.parametrize("kind", ["file", "null", "closed pipe"])
def test_a_command_that_ends_with_its_input_ends(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("text", encoding="utf-8")
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader) as pipe, (tmp_path / "file").open() as file, Path(os.devnull).open() as null:
        monkeypatch.setattr("sys.stdin", {"file": file, "null": null, "closed pipe": pipe}[kind])
        asyncio.run(asyncio.wait_for(stdin_ends(), 5))
