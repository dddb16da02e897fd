"""What the live table shows, also on a narrow terminal, and a run file that cannot be written."""

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.cli import up
from services.cli.picture import Picture, fold
from services.cli.resolve import UpOptions, resolve
from services.cli.supervisor.child import ChildStatus
from services.cli.supervisor.order import Phase
from services.cli.up import Stack
from services.cli.view import facts, services_table
from tests.unit.cli.test_summary import decision

SERVICE = ChildStatus("sandbox_exchange", Phase.RESTARTING, 123_456, 9400, 12, 0, "x" * 80, "python -m services.risk")


def drawn(thing: object, width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(thing)
    return captured.get()


@pytest.mark.parametrize("width", [56, 80, 120])
def test_a_narrow_terminal_cuts_no_state(width: int) -> None:
    shown = drawn(services_table([SERVICE]), width)
    for word in ("sandbox_exchange", "restarting", "12", "123456"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= width


def test_why_nothing_is_done_is_shown() -> None:
    fired = msgspec.structs.replace(decision(1, "upside", "plan"), notes=("upside: A-USDT +41.0 %",))
    quiet = msgspec.structs.replace(decision(2, "none", "look"), notes=("farthest: A-USDT", "cooling down"))
    picture = fold(fold(Picture(), fired), quiet)
    shown = drawn(facts(picture), 120)
    assert "upside: A-USDT +41.0 %" in shown
    assert "farthest: A-USDT; cooling down" in shown
    assert "last look" not in drawn(facts(fold(Picture(), fired)), 120)


def test_a_full_disk_makes_other_commands_blind_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    stack = Stack(resolve(UpOptions(state_dir=tmp_path), {}), fresh=False, as_json=True)
    stack._begin()
    monkeypatch.setattr(stack._view, "say", said.append)
    written: list[object] = []

    def full(run: object) -> None:
        if not written:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(up, "write_run", full)
    for _ in range(3):
        stack._refresh()
    assert said == [f"{tmp_path / 'run.json'} cannot be written: No space left on device"]
    assert stack._is_dirty
    written.append("space again")
    stack._refresh()
    assert not stack._is_dirty
