"""`cascade data synthetic`: a file that replays and backtests can read, the same for the same seed."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from services.cli.data_synthetic import synthetic
from services.market_data.replay_file import inspect_replay
from shared.errors import InputError

ASSETS = ("HANA-USDT", "AIA-USDT")


def write(*options: str) -> str:
    app = typer.Typer()
    app.command()(synthetic)
    done = CliRunner().invoke(app, list(options))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_file_is_a_replay(tmp_path: Path, name: str) -> None:
    options = ("--assets", "HANA,AIAUSDT", "--interval", "1h", "--bars", "30", "--from", "2026-02-01")
    assert "30 bars of 1h of HANA-USDT, AIA-USDT, made up" in write(str(tmp_path / name), *options)
    info = inspect_replay(tmp_path / name, ASSETS)
    assert (info.steps, info.timeframe, info.missing) == (30, "1h", 0)
    assert info.first_open_ns == 1_769_904_000_000_000_000
    write(str(tmp_path / f"again-{name}"), *options)
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()
    write(str(tmp_path / f"other-{name}"), *options, "--seed", "8")
    assert (tmp_path / f"other-{name}").read_bytes() != (tmp_path / name).read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.txt", (), "name it .csv or .csv.gz"),
        ("there.csv", (), "is there already"),
        ("a.csv", ("--interval", "4x"), "timeframe must look like"),
        ("a.csv", ("--from", "soon"), "--from soon: write a date"),
        ("no/a.csv", (), "choose a file that can be written"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, options: tuple[str, ...], words: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(InputError, match=words):
        write(str(tmp_path / name), "--assets", "HANA,AIA", *options)
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
