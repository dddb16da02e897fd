"""The stack's own sandbox exchange: its ports, its key, and how the services reach it.

In: a state directory, settings. Out: a process spec, and settings that name the exchange's addresses and key files.
Never: a key on a command line or in the settings, a key file that others can read, a real venue's key.
"""

from collections.abc import Mapping
from pathlib import Path

from services.cli.resolve import sandbox_defaults
from services.cli.supervisor.ports import free_port
from services.sandbox_exchange.config import NAME
from services.sandbox_exchange.keys import write_key_files
from shared.config import Settings, Tree
from shared.errors import ConfigError

PORT, ADMIN_PORT = 9500, 9600


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
    key_file, secret_file = write_key_files(state_dir)
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


def _defaults(settings: Settings) -> Tree:
    given = sandbox_defaults(settings.stack)
    return {
        name: [str(one) for one in value] if isinstance(value, tuple) else str(value) for name, value in given.items()
    }


def _table(settings: Settings, section: str) -> Mapping[str, "Tree | str | int | bool | list[str] | None"]:
    table = settings.tree.get(section) or {}
    assert isinstance(table, dict)
    return table
