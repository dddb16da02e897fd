"""From a person's options to settings that every service accepts, before anything starts.

In: options, a file, the environment. Out: one validated tree, the replay's facts, the state directory.
Never: a stack that half starts: each section is decoded with its own service's type, a replay is read to its end.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from services.backtest.config import risk_for
from services.cli.runfile import STATE_ROOT
from services.dashboard.config import DashboardConfig
from services.execution.config import ExecutionConfig
from services.market_data.config import FeedKind, MarketDataConfig
from services.market_data.core.replay import ReplayInfo
from services.rebalancer.config import RebalanceConfig
from services.recorder.config import RecorderConfig
from services.risk.config import RiskConfig
from services.sandbox_exchange.config import SandboxConfig
from shared.config import WIRE_VENUES, Mode, Settings, StackConfig, Tree, load_settings
from shared.errors import ConfigError
from shared.exchange.access import ExchangeAccess, access_of, check_access, trading_wire

Defaults = Callable[[StackConfig], Mapping[str, object]]


def sandbox_defaults(stack: StackConfig) -> Mapping[str, object]:
    """Return what the stack settles for its sandbox exchange: venue, markets and the first money."""
    if stack.venue not in WIRE_VENUES:
        return {}
    return {
        "venue": stack.venue,
        "symbols": tuple(asset.replace("-", "") for asset in stack.assets),
        "balances": (f"{stack.quote_asset}={stack.initial_usdt:f}",),
        # Ten minutes of a market's life a second: thresholds that take days are crossed within minutes, and while an
        # order is on its way the price stays within the collar of the close that it was decided on.
        "speed": 600.0,
    }


SECTIONS: dict[str, tuple[type[msgspec.Struct], Defaults]] = {
    "exchange": (ExchangeAccess, lambda _: {}),
    "market_data": (MarketDataConfig, lambda _: {}),
    "rebalancer": (RebalanceConfig, lambda stack: {"assets": stack.assets}),
    "risk": (RiskConfig, lambda _: {}),
    "execution": (ExecutionConfig, lambda _: {}),
    "recorder": (RecorderConfig, lambda _: {}),
    "dashboard": (DashboardConfig, lambda _: {}),
    "sandbox_exchange": (SandboxConfig, sandbox_defaults),
}
# What may change from one run to the next without making it another run.
PRESENTATION = {
    "exchange": tuple(ExchangeAccess.__struct_fields__),  # where a venue is reached; who it is, the stack says
    "market_data": ("speed",),
    "dashboard": tuple(DashboardConfig.__struct_fields__),
    "sandbox_exchange": tuple(SandboxConfig.__struct_fields__),  # its state file says what market it goes on with
}


class UpOptions(msgspec.Struct, frozen=True):
    """Hold what `cascade up` was asked for."""

    config: Path | None = None
    assets: str | None = None
    speed: str | None = None
    replay: Path | None = None
    overrides: tuple[str, ...] = ()
    state_dir: Path | None = None


class Resolved(msgspec.Struct, frozen=True):
    """Hold settings that passed every check, and where the run keeps its state."""

    settings: Settings
    market_data: MarketDataConfig
    dashboard: DashboardConfig
    rebalancer: RebalanceConfig
    replay: ReplayInfo | None
    state_dir: Path
    identity: dict[str, str]


def resolve(options: UpOptions, environ: Mapping[str, str]) -> Resolved:
    """Merge and validate everything; raises ConfigError or InputError that names the field and the fix."""
    settings = load_settings(options.config, (*_option_overrides(options), *options.overrides), environ)
    settings = _with_mode(settings, options)
    check_sections(settings)
    check_access(settings.stack, access_of(settings), environ)
    if settings.stack.mode is Mode.LIVE:
        # Execution reads the key again; a file that it would refuse is refused before anything starts.
        trading_wire(settings.stack, access_of(settings), environ)
    settings = _with_risk_following(settings)
    market_data = settings.section("market_data", MarketDataConfig)
    replay = None
    if not settings.stack.mode.is_wire and market_data.feed is FeedKind.REPLAY:
        assert market_data.replay_path is not None
        path = Path(market_data.replay_path).resolve()
        settings = _with(settings, "market_data", "replay_path", str(path))
        # Reading candles takes libraries that no other command has to wait for.
        from services.market_data.replay_file import inspect_replay  # noqa: PLC0415 - see above

        replay = inspect_replay(path, settings.stack.assets, market_data)
        if "timeframe" not in _table(settings, "stack"):
            settings = _with(settings, "stack", "timeframe", replay.timeframe)
        elif settings.stack.timeframe != replay.timeframe:
            raise ConfigError(
                f"stack.timeframe is {settings.stack.timeframe}, but {path} has bars of {replay.timeframe}: "
                f"leave it out, or set stack.timeframe={replay.timeframe}"
            )
    identity = run_identity(settings, market_data)
    return Resolved(
        settings=settings,
        market_data=settings.section("market_data", MarketDataConfig),
        dashboard=settings.section("dashboard", DashboardConfig),
        rebalancer=settings.section("rebalancer", RebalanceConfig, assets=settings.stack.assets),
        replay=replay,
        state_dir=(options.state_dir or _state_dir(settings.stack, identity, is_replay=replay is not None)).resolve(),
        identity=identity,
    )


def _with_mode(settings: Settings, options: UpOptions) -> Settings:
    """Name the mode in so many words, whatever it was concluded from; --replay and --speed ask for a replay."""
    mode = settings.stack.mode
    if mode.is_wire and (options.replay is not None or options.speed is not None):
        if mode is not Mode.SANDBOX:
            raise ConfigError(
                f"--replay and --speed belong to a replay, but stack.mode is {mode}: leave them out, or set "
                "stack.mode=replay"
            )
        mode = Mode.REPLAY
    return _with(settings, "stack", "mode", mode.value)


def _with_risk_following(settings: Settings) -> Settings:
    """Let the gate's limits follow rules and capital where nobody set them, as a backtest does."""
    given = frozenset(_table(settings, "risk"))
    rules = settings.section("rebalancer", RebalanceConfig, assets=settings.stack.assets)
    risk = settings.section("risk", RiskConfig)
    followed = risk_for(rules, settings.stack.initial_usdt, risk, given)
    for key in ("position_limit", "notional_max_usdt"):
        if getattr(followed, key) != getattr(risk, key):
            settings = _with(settings, "risk", key, str(getattr(followed, key)))
    return settings


def check_sections(settings: Settings) -> None:
    """Decode each section with its service's type; raises ConfigError that names the key and the fix."""
    for name, (kind, defaults) in SECTIONS.items():
        settings.section(name, kind, **defaults(settings.stack))


def run_identity(settings: Settings, market_data: MarketDataConfig) -> dict[str, str]:
    """Return what makes a run this run: every setting but how fast and how it is shown, and the replay file's state."""
    identity: dict[str, str] = {}
    sections: dict[str, tuple[type[msgspec.Struct], Defaults]] = {"stack": (StackConfig, lambda _: {}), **SECTIONS}
    for section, (kind, defaults) in sections.items():
        values = msgspec.to_builtins(settings.section(section, kind, **defaults(settings.stack)))
        for key, value in values.items():
            if key not in PRESENTATION.get(section, ()):
                identity[f"{section}.{key}"] = str(value)
    if market_data.replay_path is not None:
        folder = Path(market_data.replay_path)
        for path in _files(folder):
            name = path.relative_to(folder) if folder.is_dir() else path.name
            about = path.stat()
            identity[f"file {name}"] = f"{about.st_size} bytes of {about.st_mtime_ns}"
    return identity


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between two identities, a sentence for each setting."""
    names = sorted(before.keys() | now.keys())
    return [
        f"{name} was {before.get(name, 'not set')}, now it is {now.get(name, 'not set')}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _option_overrides(options: UpOptions) -> tuple[str, ...]:
    found = []
    if options.assets is not None:
        found.append(f"stack.assets={options.assets}")
    if options.speed is not None:
        found.append(f"market_data.speed={options.speed}")
    if options.replay is not None:
        found += ["market_data.feed=replay", f"market_data.replay_path={options.replay}"]
    return tuple(found)


def _with(settings: Settings, section: str, key: str, value: str) -> Settings:
    return Settings({**settings.tree, section: {**_table(settings, section), key: value}})


def _table(settings: Settings, section: str) -> Tree:
    table = settings.tree.get(section) or {}
    assert isinstance(table, dict)
    return table


def _state_dir(stack: StackConfig, identity: Mapping[str, str], *, is_replay: bool) -> Path:
    if stack.mode.is_wire:
        return STATE_ROOT / f"{stack.mode}-{stack.venue}"
    if not is_replay:
        return STATE_ROOT / "synthetic"
    digest = hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()
    return STATE_ROOT / f"replay-{digest[:8]}"


def _files(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
