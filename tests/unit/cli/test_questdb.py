"""`cascade questdb` says in a sentence what cannot be, before anything is started or waited for."""

import fcntl
import shlex
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli import questdb
from services.cli.questdb import Running, app
from services.recorder.config import RecorderConfig
from shared.config import load_settings
from shared.errors import InputError, StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.catalogue.importer import ImportOptions, import_file
from shared.store.questdb.server import ServerPorts
from shared.testing.nats import free_port


def call(*words: str) -> Result:
    result: Result = CliRunner().invoke(app, list(words))
    return result


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    source = tmp_path / "BTCUSDT-1h.csv"
    rows = [f"{1_767_225_600_000 + at * 3_600_000},1,2,0.5,1.5,7" for at in range(3)]
    source.write_text("\n".join(["open_time,open,high,low,close,volume", *rows]))
    (done,) = import_file(Catalogue(tmp_path / "catalogue"), source, ImportOptions(venue="mexc"))
    assert done.written
    return tmp_path / "catalogue"


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (["--url", "http://127.0.0.1:{port}", "--password-file", "{secret}"], StoreUnavailableError, "does not answer"),
        (["--url", "http://127.0.0.1:{port}", "--password-file", "none"], StoreUnavailableError, "no password: none"),
        (["--url", "127.0.0.1:9000", "--password-file", "{secret}"], InputError, "write http://HOST:PORT"),
        (["--url", "file:///etc/passwd", "--password-file", "{secret}"], InputError, "write http://HOST:PORT"),
        (["--url", "http://", "--password-file", "{secret}"], InputError, "write http://HOST:PORT"),
        (
            ["--from", "2026-02-01", "--to", "2026-02-01", "--url", "http://127.0.0.1:1", "--password-file", "none"],
            InputError,
            "--from 2026-02-01 is not before --to 2026-02-01",
        ),
    ],
    ids=["nobody there", "no password", "no scheme", "a file", "no host", "end before start"],
)
def test_a_backfill_that_cannot_be_says_so_at_once(
    tmp_path: Path, catalogue: Path, words: list[str], error: type[Exception], told: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    filled = [word.format(port=free_port(), secret=secret) for word in words]
    result = call("backfill", "--catalogue", str(catalogue), *filled)
    assert isinstance(result.exception, error)
    assert told in str(result.exception)


def test_two_starts_at_once_make_one_server(tmp_path: Path) -> None:
    with (tmp_path / "start.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        second = call("start", "--dir", str(tmp_path))
    assert isinstance(second.exception, InputError)
    assert "just being started" in str(second.exception)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("below", ["", "below"])
def test_a_place_that_is_a_file_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("x")
    result = call("start", "--dir", str(tmp_path / "file" / below))
    assert isinstance(result.exception, InputError)
    assert f"--dir {tmp_path / 'file' / below}" in str(result.exception)


@pytest.mark.parametrize("port", ["-1", "0", "65536", "x"])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: str) -> None:
    for option in ("--http-port", "--pg-port"):
        assert call("start", "--dir", str(tmp_path / "q"), option, port).exit_code == 2
    assert not (tmp_path / "q").exists()


def test_the_line_that_records_into_a_server_works_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "my folder"
    questdb._tell(place, Running(1, ServerPorts(http=9_123), ("java",)), healthy=True, detail="", as_json=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "make run" in line]
    words = shlex.split(line.removeprefix("  record into it  "))
    assert words[-2:] == ["make", "run"]
    environ = dict(word.split("=", 1) for word in words[:-2])
    recorder = load_settings(environ=environ).section("recorder", RecorderConfig)
    assert recorder.questdb_url == "http://127.0.0.1:9123"
    assert Path(recorder.questdb_password_file) == place / "secrets" / "http.password"
