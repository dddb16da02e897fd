"""`cascade questdb start | stop | status | backfill`: a local QuestDB without Docker, and the stack's own one.

In: a directory, free ports, a jar and a Java found or fetched. Out: a running server on loopback with passwords of its
own. Never: a default password, a process ended that is not the server.
"""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from services.cli.catalogue import ROOT_DEFAULT, Root, Symbols, Timeframe, Venue, catalogue_keys, instant_ns
from services.cli.commands.options import AsJson, print_json
from services.cli.errors import EXIT_FAILED, NotRunningError
from services.cli.questdb_local import NAME, STOP_TIMEOUT_S, free_ports
from services.cli.runfile import STATE_ROOT
from shared.clock import wall_ns
from shared.errors import InputError, StoreUnavailableError
from shared.store.catalogue.catalogue import Catalogue
from shared.store.questdb.server import (
    HTTP_PASSWORD,
    PG_PASSWORD,
    USER,
    VERSION,
    ServerPorts,
    find_jar,
    find_java,
    prepare,
    start_command,
)
from shared.store.questdb.server import password_file as secret_file

RUN_FILE, LOCK_FILE = "run.json", "start.lock"
READY_TIMEOUT_S = 60.0

app = typer.Typer(help="Run a local QuestDB without Docker.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="Where the server keeps everything.")]
DEFAULT = STATE_ROOT / NAME


class Running(msgspec.Struct, frozen=True):
    """Describe a server that was started here."""

    pid: int
    ports: ServerPorts
    command: tuple[str, ...]


@app.command()
def start(
    *,
    directory: Directory = DEFAULT,
    http_port: Annotated[
        int, typer.Option(min=1, max=65_535, help="For writes and SQL; another one when it is taken.")
    ] = 9000,
    pg_port: Annotated[int, typer.Option(min=1, max=65_535, help="For reads; another one when it is taken.")] = 8812,
    as_json: AsJson = False,
) -> None:
    """Start the server in the background and return when it answers."""
    with _alone(directory):
        running = _started(directory, ServerPorts(http=http_port, pg=pg_port))
    _tell(directory, running, healthy=True, detail="QuestDB runs", as_json=as_json)


def _started(directory: Path, wanted: ServerPorts) -> Running:
    known = _running(directory)
    if known is not None:
        raise InputError(f"QuestDB already runs in {directory} (process {known.pid}, port {known.ports.http})")
    java, jar = find_java(), find_jar()
    log_path = directory / "server.log"
    try:
        ports = free_ports(wanted, frozenset())
        prepare(directory, ports)
        log = log_path.open("ab")
    except OSError as error:
        raise InputError(f"--dir {directory}: {error.strerror or error}") from error
    command = start_command(java, jar, directory)
    with log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    running = Running(process.pid, ports, command)
    (directory / RUN_FILE).write_bytes(msgspec.json.encode(running))
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _answers(ports.http):
        if process.poll() is not None or time.monotonic() > deadline:
            _end(running)
            raise StoreUnavailableError(f"QuestDB did not start, {log_path} tells why")
        time.sleep(0.1)
    return running


@app.command()
def stop(*, directory: Directory = DEFAULT) -> None:
    """Stop the server in good order."""
    running = _found(directory)
    _end(running)
    (directory / RUN_FILE).unlink(missing_ok=True)
    print(f"QuestDB in {directory} has stopped")


@app.command()
def status(*, directory: Directory = DEFAULT, as_json: AsJson = False) -> None:
    """Show whether the server runs and applies what it takes; exit code 1 when it does not."""
    from shared.store.questdb.sink import QuestdbSink  # noqa: PLC0415 - only here, columns need heavy libraries

    running = _found(directory)
    sink = QuestdbSink(f"http://127.0.0.1:{running.ports.http}", USER, secret_file(directory, HTTP_PASSWORD))
    condition = sink.condition()
    _tell(directory, running, healthy=condition.is_healthy, detail=condition.detail, as_json=as_json)
    if not condition.is_healthy:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def backfill(
    *,
    directory: Directory = DEFAULT,
    url: Annotated[str | None, typer.Option("--url", help="Another server; needs --password-file.")] = None,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="Its HTTP password.")] = None,
    user: Annotated[str, typer.Option("--user")] = USER,
    catalogue: Root = ROOT_DEFAULT,
    table: Annotated[str | None, typer.Option("--table", help="bars or trades [default: both]")] = None,
    venue: Venue = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[str | None, typer.Option("--from", metavar="DATE", help="2025-01-31, or 90d.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Up to, not included.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the catalogue's history into QuestDB; again is the same. Exit code 1 when rows were refused."""
    from services.cli.questdb_backfill import backfill as run  # noqa: PLC0415 - columns need heavy libraries
    from shared.store.questdb.sink import QuestdbSink  # noqa: PLC0415 - as above

    if (url is None) != (password_file is None):
        raise InputError("--url and --password-file go together: a server of our own needs neither")
    if url is None or password_file is None:
        url = f"http://127.0.0.1:{_found(directory).ports.http}"
        password_file = secret_file(directory, HTTP_PASSWORD)
    if urllib.parse.urlsplit(url).scheme not in ("http", "https") or not urllib.parse.urlsplit(url).netloc:
        raise InputError(f"--url {url}: write http://HOST:PORT")
    now_ns = wall_ns()
    start_ns = None if start is None else instant_ns("--from", start, now_ns)
    end_ns = None if end is None else instant_ns("--to", end, now_ns)
    if start_ns is not None and end_ns is not None and start_ns >= end_ns:
        raise InputError(f"--from {start} is not before --to {end}")
    opened = Catalogue(catalogue)
    keys = catalogue_keys(opened, table, venue, symbols, timeframe)
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        bar = progress.add_task("QuestDB", total=len(keys))
        sink = QuestdbSink(url, user, password_file)
        done = run(opened, keys, sink, start_ns=start_ns, end_ns=end_ns, told=lambda: progress.advance(bar))
    if as_json:
        print_json([msgspec.to_builtins(one) for one in done])
    else:
        for one in done:
            refused = f", {one.refused} refused" if one.refused else ""
            print(f"{one.table} {one.venue} {one.instrument} {one.timeframe}: {one.rows} rows{refused}")
    if any(one.refused for one in done):
        raise typer.Exit(EXIT_FAILED)


def _tell(directory: Path, running: Running, *, healthy: bool, detail: str, as_json: bool) -> None:
    secret, reads = secret_file(directory, HTTP_PASSWORD), secret_file(directory, PG_PASSWORD)
    if as_json:
        ports = msgspec.to_builtins(running.ports)
        print_json(
            {
                "pid": running.pid,
                "version": VERSION,
                "ports": ports,
                "user": USER,
                "http_password_file": str(secret.absolute()),
                "pg_password_file": str(reads.absolute()),
                "healthy": healthy,
                "detail": detail,
            }
        )
        return
    print(f"{detail}: process {running.pid}, state in {directory}")
    print(f"  writes and SQL  http://127.0.0.1:{running.ports.http}  user {USER}, password in {secret}")
    print(f"  reads           127.0.0.1:{running.ports.pg} (Postgres wire)  user {USER}, password in {reads}")
    print(f"  health, metrics http://127.0.0.1:{running.ports.health}/metrics")
    # As variables, not as SET: a path may have a space in it.
    print(
        f"  record into it  CASCADE_RECORDER__QUESTDB_URL=http://127.0.0.1:{running.ports.http} "
        f"CASCADE_RECORDER__QUESTDB_PASSWORD_FILE={shlex.quote(str(secret.absolute()))} make run"
    )


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let nobody else start a server here meanwhile: of two, one would run and nobody would know its number."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory / LOCK_FILE).open("wb")
    except OSError as error:
        raise InputError(f"--dir {directory}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"a QuestDB is just being started in {directory}") from error
        yield


def _found(directory: Path) -> Running:
    running = _running(directory)
    if running is None:
        raise NotRunningError(f"no QuestDB runs in {directory}: start one with `cascade questdb start`")
    return running


def _running(directory: Path) -> Running | None:
    try:
        known = msgspec.json.decode((directory / RUN_FILE).read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None
    return known if _is_alive(known) else None


def _is_alive(running: Running) -> bool:
    """Tell whether the process still is the server: its id alone may belong to somebody else by now."""
    asked = ["ps", "-ww", "-o", "stat=,command=", "-p", str(running.pid)]
    state, _, command = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().partition(" ")
    return not state.startswith("Z") and " ".join(command.split()) == " ".join(" ".join(running.command).split())


def _end(running: Running) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _is_alive(running):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _is_alive(running) and time.monotonic() < deadline:
            time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1) as answer:
            return bool(answer.status == 204)
    except (urllib.error.URLError, OSError):
        return False
