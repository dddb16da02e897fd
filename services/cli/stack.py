"""Which processes make a stack, and what each is told.

In: resolved settings, free ports. Out: process specs. Never: a variable that would change the settings after they were
validated, a secret on a command line.
"""

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import msgspec

from services.cli.broker import NAME as NATS
from services.cli.supervisor.child import ProcessSpec
from services.cli.supervisor.ports import free_port
from shared.bus.server import seed_file
from shared.config import Mode, Settings
from shared.errors import ConfigError
from shared.exchange.access import LIVE_SWITCH

HEALTH_PORT = 9400
GIT_TIMEOUT_S = 2.0

# In mode sandbox the exchange is one of the processes, unless addresses name another; it needs no bus.
SANDBOX: dict[str, tuple[str, ...]] = {
    "sandbox_exchange": (),
    "execution": (NATS, "sandbox_exchange"),
}
# The market comes last: when it begins, everybody listens.
AFTER: dict[str, tuple[str, ...]] = {
    "execution": (NATS,),
    "risk": (NATS,),
    "recorder": (NATS,),
    "rebalancer": (NATS,),
    "dashboard": (NATS,),
    "market_data": ("execution", "risk", "recorder", "rebalancer"),
}


def service_specs(
    mode: Mode,
    *,
    state_dir: Path,
    settings_file: Path,
    keys_dir: Path,
    nats_url: str,
    build: str,
    environ: Mapping[str, str],
    live_switch: str | None = None,
    own_venue: bool = True,
) -> list[ProcessSpec]:
    """Return how to run each service of the stack; `live_switch` is what the environment says to arm live trading.

    In mode sandbox `own_venue` says whether the exchange is one of the processes, or somebody else's.
    """
    specs: list[ProcessSpec] = []
    names = SANDBOX | {name: after for name, after in AFTER.items() if name not in SANDBOX}
    for port, (name, after) in enumerate(
        (names if mode is Mode.SANDBOX and own_venue else AFTER).items(), start=HEALTH_PORT
    ):
        env = dict(environ) | {
            "CASCADE_NATS_URL": nats_url,
            "CASCADE_NKEY_FILE": str(seed_file(keys_dir, name)),
            "CASCADE_SETTINGS": str(settings_file),
            "CASCADE_STATE_DIR": str(state_dir),
            "CASCADE_HTTP_HOST": "127.0.0.1",
            "CASCADE_INSTANCE": "0",
            "CASCADE_BUILD": build,
        }
        if live_switch is not None and name == "execution":
            env[LIVE_SWITCH] = live_switch
        # -P: a folder called `services` in the working directory must not stand in for the installed package.
        argv = (sys.executable, "-P", "-m", f"services.{name}")
        specs.append(ProcessSpec(name=name, argv=argv, env=env, after=after, port=port))
    return specs


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without our own variables: what they said is in the settings file, validated."""
    return {name: value for name, value in environ.items() if not name.startswith("CASCADE_")} | {
        "PYTHONUNBUFFERED": "1"
    }


def with_dashboard_port(settings: Settings, preferred: int) -> tuple[Settings, int]:
    """Return the settings with a dashboard port that is free now."""
    try:
        port = free_port(preferred or 8080)
    except OSError as error:
        raise ConfigError(f"dashboard.port: {error}: choose another") from error
    table = settings.tree.get("dashboard") or {}
    assert isinstance(table, dict)
    return Settings({**settings.tree, "dashboard": {**table, "port": port}}), port


def write_settings(path: Path, settings: Settings) -> None:
    """Write the settings that every service reads."""
    path.write_bytes(msgspec.json.format(settings.to_json(), indent=2))


def build_name() -> str:
    """Return the version, with the commit where this is a checkout."""
    name = version("cascade-trader")
    try:
        asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return name
    return f"{name}+{told.stdout.strip()}"
