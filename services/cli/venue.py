"""The stack's own sandbox exchange: its ports, its key, and how the services reach it.

In: a state directory, settings. Out: a process spec, and settings that name the exchange's addresses and key files.
Never: a key on a command line or in the settings, a key file that others can read, a real venue's key.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.cli.resolve import sandbox_defaults
from services.cli.supervisor.child import free_port
from services.sandbox_exchange.config import NAME
from shared.config import Settings, Tree
from shared.errors import ConfigError

PORT, ADMIN_PORT = 9500, 9600
KEY_FILE, SECRET_FILE = "exchange.key", "exchange.secret"


class SandboxKey(msgspec.Struct, frozen=True):
    """Hold the trading key of a sandbox exchange, as its key file does."""

    api_key: str
    secret: str


def with_sandbox(settings: Settings, state_dir: Path) -> Settings:
    """Return the settings with a sandbox exchange on free ports, its key made and kept in the state directory.

    Raises ConfigError when no port is free or the key file cannot be read.
    """
    table = _table(settings, NAME)
    try:
        port = int(str(table.get("port") or 0)) or free_port(PORT)
        admin_port = int(str(table.get("admin_port") or 0)) or free_port(ADMIN_PORT, taken=frozenset({port}))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{NAME}.port: {error}: choose another") from error
    sandbox: Tree = {**_defaults(settings), **table, "port": port, "admin_port": admin_port}
    key_file, secret_file = write_keys(state_dir)
    exchange: Tree = {
        **_table(settings, "exchange"),
        "rest_url": f"http://127.0.0.1:{port}",
        "ws_url": f"ws://127.0.0.1:{port}" + ("/ws" if settings.stack.venue == "mexc" else ""),
        "key_file": str(key_file),
        "secret_file": str(secret_file),
    }
    if settings.stack.venue == "binance":
        exchange["ws_api_url"] = f"ws://127.0.0.1:{port}/ws-api/v3"
    return Settings({**settings.tree, NAME: sandbox, "exchange": exchange})


def write_keys(directory: Path) -> tuple[Path, Path]:
    """Make the exchange's key unless it is there, and return the files that execution reads it from, mode 0600."""
    key = _key(directory / f"{NAME}.key")
    return _write(directory / KEY_FILE, key.api_key), _write(directory / SECRET_FILE, key.secret)


def _defaults(settings: Settings) -> Tree:
    given = sandbox_defaults(settings.stack)
    return {
        name: [str(one) for one in value] if isinstance(value, tuple) else str(value) for name, value in given.items()
    }


def _key(path: Path) -> SandboxKey:
    try:
        return msgspec.json.decode(path.read_bytes(), type=SandboxKey)
    except FileNotFoundError:
        key = SandboxKey(f"sbx{secrets.token_hex(14)}", secrets.token_hex(32))
        _write(path, msgspec.json.encode(key).decode())
        return key
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path}: {error}: begin anew with --fresh") from error


def _write(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    return path


def _table(settings: Settings, section: str) -> Mapping[str, "Tree | str | int | bool | list[str] | None"]:
    table = settings.tree.get(section) or {}
    assert isinstance(table, dict)
    return table
