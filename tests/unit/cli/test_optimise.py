"""`cascade optimise`: what it prints and writes, and what it refuses before anything runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from services.cli.optimise import app

HOUR_MS = 3_600_000
SMALL = ("--param", "upside_threshold=0.1:0.3:0.1", "--sampler", "grid", "--folds", "2")


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candles") / "candles_4h.csv"
    source = np.random.default_rng(2)
    lines = ["symbol,open_time,open,high,low,close,volume"]
    for name in ("AUSDT", "BUSDT", "CUSDT"):
        price = 100.0
        for number in range(240):
            close = round(price * float(np.exp(source.normal(0, 0.05))), 4)
            high, low = max(price, close), min(price, close)
            lines.append(f"{name},{1_767_225_600_000 + number * 4 * HOUR_MS},{price},{high},{low},{close},1000000")
            price = close
    path.write_text("\n".join(lines) + "\n")
    return path


def run(candles: Path, *options: str, assets: str = "A,B,C") -> Result:
    return CliRunner().invoke(app, ["rebalancer", "--assets", assets, "--data", str(candles), *options])


def test_json_is_one_object_on_standard_output(candles: Path) -> None:
    result = run(candles, *SMALL, "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["trials_made"] == 3
    assert set(shown["best"]["rules"]) == {"upside_threshold"}
    assert len(shown["walk_forward"]["folds"]) == 2
    assert shown["probability_of_overfitting"] is not None


def test_the_text_names_the_winner_and_warns(candles: Path, tmp_path: Path) -> None:
    result = run(candles, *SMALL, "--csv", str(tmp_path / "t.csv"), "--report", str(tmp_path / "r.html"))
    assert result.exit_code == 0, result.output
    assert "Best: upside_threshold 0." in result.stdout
    assert "Warning:" in result.stdout
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4
    page = (tmp_path / "r.html").read_text()
    assert candles.name in page
    assert str(candles.parent) not in page


def test_a_search_goes_on_from_its_file(candles: Path, tmp_path: Path) -> None:
    storage = ("--storage", str(tmp_path / "s.jsonl"))
    first, again = run(candles, *SMALL, "--json", *storage), run(candles, *SMALL, "--json", *storage)
    assert first.stdout == again.stdout
    other = run(candles, *SMALL, "--json", *storage, "--capital", "5000")
    assert other.exit_code == 2
    assert "other settings" in other.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--param", "upside=0.1:0.2:0.1"), "no rule"),
        (("--trials", "0"), "trials must be"),
        (("--folds", "40"), "too few"),
        (("--embargo", "-1"), "embargo"),
        (("--gaps", "maybe"), "--gaps"),
        (("--interval", "1h"), "interval is 1h"),
        (("--capital", "20"), "too small"),
        (("--seed", "-3"), "seed"),
        (("--csv", "/nonexistent/t.csv", *SMALL), "choose a file that can be written"),
        (("--storage", "/nonexistent/s.jsonl", *SMALL), "choose a file that can be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(candles: Path, options: tuple[str, ...], said: str) -> None:
    result = run(candles, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.startswith("cascade optimise: ")


def test_a_missing_asset_is_named(candles: Path) -> None:
    result = run(candles, assets="A,B,ZZZ")
    assert result.exit_code == 2
    assert "ZZZ" in result.stderr
