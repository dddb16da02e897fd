"""From an exchange and rules to what `cascade up` is told: a settings file, key files, a state directory.

In: the exchange's configuration, markets, rules. Out: files that only their owner reads. Never: a key in the settings
or on a command line, a setting of the environment that changes what the program said, one journal for two accounts.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.config import Mode
from shared.errors import ConfigError
from shared.exchange import ExchangeConfig
from shared.exchange.access import read_key

STATE_ROOT = Path("var")
SETTINGS_FILE = "program.json"
KEY_FILE, SECRET_FILE = "program.key", "program.secret"
_OTHERS = re.compile(r"CASCADE_(.*__.*|REPLAY)")


def state_dir_of(config: ExchangeConfig) -> Path:
    """Return where the account's journal is kept: `cascade up`'s own place, for a sandbox one for each key.

    Raises ConfigError when there is no key: without one there is no account.
    """
    if not config.api_key and config.key_file is None:
        raise ConfigError("orders need a key: give the exchange key_file and secret_file, or a sandbox's api_key")
    if config.mode == Mode.LIVE:
        return STATE_ROOT / f"{config.mode}-{config.venue}"
    # Every sandbox exchange is another account, and its key is the one thing that it never shares.
    key = config.api_key or read_key(config.key_file, "key_file")
    return STATE_ROOT / f"{config.mode}-{config.venue}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def write_settings(state_dir: Path, config: ExchangeConfig, rules: RebalanceConfig, risk: RiskConfig | None) -> Path:
    """Write what the stack is to be; returns the file. Raises ConfigError when the directory cannot be written."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file, secret_file = config.key_file, config.secret_file
        if config.api_key:
            key_file = str(_write(state_dir / KEY_FILE, config.api_key.encode()))
            secret_file = str(_write(state_dir / SECRET_FILE, config.secret.encode()))
        tree: dict[str, object] = {
            "stack": {
                "mode": config.mode,
                "venue": config.venue,
                "assets": rules.assets,
                "quote_asset": config.quote_asset,
                "timeframe": config.timeframe,
                "initial_usdt": str(config.initial_capital),
            },
            "exchange": {
                "rest_url": config.rest_url,
                "ws_url": config.ws_url,
                "ws_api_url": config.ws_api_url,
                "key_file": key_file,
                "secret_file": secret_file,
                "key_cannot_withdraw": config.key_cannot_withdraw,
                "armed": config.armed,
            },
            "rebalancer": msgspec.to_builtins(rules),
        }
        if risk is not None:
            tree["risk"] = msgspec.to_builtins(risk)
        return _write(state_dir / SETTINGS_FILE, msgspec.json.format(msgspec.json.encode(tree), indent=2))
    except OSError as error:
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}: name a directory that can be written") from error


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings: the program's own are the ones that count."""
    return {name: value for name, value in environ.items() if not _OTHERS.fullmatch(name)}


def _write(path: Path, content: bytes) -> Path:
    path = path.resolve()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return path
