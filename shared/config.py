"""Configuration: one TOML tree, a section per service, overridden by the environment and by `--set`.

In: a file, `CASCADE_<SECTION>__<KEY>` variables, `section.key=value` texts. Out: frozen Structs, made by their owners.
Never: an unknown key, a silent default for a mistyped one, a half-applied override.
"""

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.domain.instruments import bus_symbol
from shared.errors import ConfigError, InputError

type Tree = dict[str, "Tree | str | int | bool | list[str] | None"]
T = TypeVar("T", bound=msgspec.Struct)

SECTIONS = (
    "stack",
    "exchange",
    "market_data",
    "rebalancer",
    "risk",
    "execution",
    "recorder",
    "dashboard",
    "sandbox_exchange",
)
WIRE_VENUES = ("mexc", "binance")
# What only a replayed or a made-up market has: who sets one of these and names no mode asks for a replay.
REPLAY_KEYS = (
    *("feed", "replay_path", "missing_bars", "speed", "start", "end", "steps_max"),
    *("seed", "volatility_daily", "jumps_per_day", "regime_days", "correlation"),
)
_VARIABLE = re.compile(r"^CASCADE_([A-Z_]+?)__([A-Z0-9_]+)$")


class Mode(StrEnum):
    """Name where market data comes from and where orders go.

    `replay`: candles of a file or a made-up market, filled in this process, in market time, the same every time.
    `sandbox`: a sandbox exchange over its wire. `paper`: the real venue's market, simulated fills. `live`: the venue.
    """

    REPLAY = "replay"
    SANDBOX = "sandbox"
    PAPER = "paper"
    LIVE = "live"

    @property
    def is_wire(self) -> bool:
        """Tell whether a venue is listened to over a wire, so that time is the machine's."""
        return self is not Mode.REPLAY

    @property
    def is_simulated(self) -> bool:
        """Tell whether orders are filled in execution's own process."""
        return self in (Mode.REPLAY, Mode.PAPER)


class StackConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configure what all services agree on. Markets are bus tokens (`BTC-USDT`), money in `quote_asset`.

    Left out, `venue` is mexc (in a replay: sandbox), `timeframe` 15m (in the sandbox: 15s, so that something happens).
    `initial_usdt` is a simulated account's first money; a venue's account has what it has.
    """

    mode: Mode = Mode.SANDBOX
    venue: str = ""
    assets: tuple[str, ...] = ("RIVER-USDT", "H-USDT", "PENGU-USDT", "TAO-USDT")
    quote_asset: str = "USDT"
    timeframe: str = ""
    initial_usdt: Decimal = Decimal(10_000)

    def __post_init__(self) -> None:
        if not self.venue:
            msgspec.structs.force_setattr(self, "venue", WIRE_VENUES[0] if self.mode.is_wire else "sandbox")
        if not self.timeframe:
            msgspec.structs.force_setattr(self, "timeframe", "15s" if self.mode is Mode.SANDBOX else "15m")
        if not re.fullmatch(r"[a-z0-9_-]+", self.venue):
            raise ValueError(f"venue must be a lower-case word, got {self.venue!r}")
        if self.mode.is_wire and self.venue not in WIRE_VENUES:
            raise ValueError(f"venue must be {' or '.join(WIRE_VENUES)} in mode {self.mode}, got {self.venue!r}")
        if not re.fullmatch(r"[A-Z0-9]+", self.quote_asset):
            raise ValueError(f"quote_asset must be a word in capitals, for example USDT, got {self.quote_asset!r}")
        if len(self.assets) < 2:
            raise ValueError("assets must name at least two markets, for example ASSETS=HUSDT,TAOUSDT")
        if len(set(self.assets)) != len(self.assets):
            raise ValueError(f"assets names a market twice: {', '.join(self.assets)}")
        for asset in self.assets:
            if bus_symbol(asset) != asset or not asset.endswith(f"-{self.quote_asset}"):
                raise ValueError(f"assets: {asset!r} must be written as BASE-{self.quote_asset}")
        timeframe_ns(self.timeframe)
        if not self.initial_usdt.is_finite() or self.initial_usdt <= 0:
            raise ValueError(f"initial_usdt must be a positive amount, got {self.initial_usdt}")


def timeframe_ns(timeframe: str) -> int:
    """Return the length of `1s`, `15m`, `4h`, `1d` in nanoseconds; raises ValueError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})([smhd])", timeframe)
    if match is None:
        raise ValueError(f"timeframe must look like 1m, 15m, 4h or 1d, got {timeframe!r}")
    seconds = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]]
    return int(match[1]) * seconds * 1_000_000_000


class Settings:
    """Hold the merged tree and hand out its sections."""

    def __init__(self, tree: Tree) -> None:
        unknown = sorted(set(tree) - set(SECTIONS))
        if unknown:
            raise ConfigError(f"[{unknown[0]}] is no section{_suggestion(unknown[0], SECTIONS)}")
        self.tree = _with_mode(tree)
        self.stack = self.section("stack", StackConfig)

    def section(self, name: str, kind: type[T], **defaults: object) -> T:
        """Return the section decoded as `kind`; `defaults` fill keys that it leaves out.

        Raises ConfigError that names the key, what is wrong and the fix.
        """
        raw = self.tree.get(name) or {}
        if not isinstance(raw, dict):
            raise ConfigError(f"[{name}] must be a table of keys, got {raw!r}")
        merged: Tree = dict(raw)
        if name == "stack" and isinstance(merged.get("assets"), str | list):
            merged["assets"] = _asset_list(merged["assets"])
        for field in msgspec.structs.fields(kind):
            value = merged.get(field.name)
            if isinstance(value, str) and typing.get_origin(field.type) is tuple:
                # The environment and --set can only say texts: a list is one with commas.
                merged[field.name] = [part.strip() for part in value.split(",") if part.strip()]
        known = kind.__struct_fields__
        for key in merged:
            if key not in known:
                raise ConfigError(f"{name}.{key} is no setting{_suggestion(key, known)}")
        try:
            return msgspec.convert(defaults | merged, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{name}{_located(error)}{choices(error, kind) or _given(error, kind, merged)}"
            ) from error

    def to_json(self) -> bytes:
        """Return the merged tree, so that a child process sees exactly what was validated."""
        return msgspec.json.encode(self.tree)


def load_settings(
    path: Path | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """Merge the file (TOML or JSON), then the environment, then `section.key=value` overrides.

    A `stack.assets` that ends in `.toml` is a list of markets in a file of its own, read once, here.
    Raises ConfigError for anything that is not understood.
    """
    tree: Tree = _read(path) if path is not None else {}
    for name, value in sorted((os.environ if environ is None else environ).items()):
        match = _VARIABLE.match(name)
        if match:
            _assign(tree, match[1].lower(), match[2].lower(), value, source=name)
    for override in overrides:
        target, equals, value = override.partition("=")
        section, dot, key = target.strip().partition(".")
        if not (equals and dot and section and key):
            raise ConfigError(
                f"--set {override!r} must be section.key=value, for example rebalancer.sell_percentage=0.1"
            )
        _assign(tree, section, key, value.strip(), source=f"--set {override}")
    return Settings(_with_pinned_assets(tree, path))


def _with_pinned_assets(tree: Tree, path: Path | None) -> Tree:
    """Return the tree with the markets of the list that `stack.assets` names, beside the configuration or from here."""
    stack = tree.get("stack")
    named = stack.get("assets") if isinstance(stack, dict) else None
    if not isinstance(stack, dict) or not isinstance(named, str) or not named.strip().endswith(".toml"):
        return tree
    beside = path.parent / named.strip() if path is not None else Path(named.strip())
    pinned = _read(beside if beside.exists() else Path(named.strip()))
    inner = pinned.get("stack")
    assets = inner.get("assets") if isinstance(inner, dict) else None
    if not isinstance(assets, list):
        raise ConfigError(
            f"stack.assets names {named!r}, which pins no markets: write it with `cascade universe top --save {named}`"
        )
    return {**tree, "stack": {**stack, "assets": assets}}


def _with_mode(tree: Tree) -> Tree:
    """Return the tree with the mode that it asks for: a replay's own settings make it a replay where none is named."""
    stack, market = tree.get("stack") or {}, tree.get("market_data") or {}
    is_asked = isinstance(market, dict) and any(key in market for key in REPLAY_KEYS)
    if not is_asked or not isinstance(stack, dict) or "mode" in stack:
        return tree
    return {**tree, "stack": {**stack, "mode": Mode.REPLAY.value}}


def _read(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"configuration file {path}: {error.strerror}: name a TOML or JSON file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"configuration file {path} is no text in UTF-8: write TOML, or JSON in a .json file"
        ) from error
    try:
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=dict)
        # Texts keep every digit; a float would lose some before Decimal sees them.
        return tomllib.loads(text, parse_float=str)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise ConfigError(f"configuration file {path}: {error}: correct it there") from error


def _assign(tree: Tree, section: str, key: str, value: str, *, source: str) -> None:
    if section not in SECTIONS:
        raise ConfigError(f"{source}: {section!r} is no section{_suggestion(section, SECTIONS)}")
    table = tree.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: [{section}] must be a table of keys")
    table[key] = value


def _asset_list(value: object) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ConfigError(f"stack.assets must be a list of markets, got {value!r}")
    try:
        return [bus_symbol(str(item).strip()) for item in items if str(item).strip()]
    except InputError as error:
        raise ConfigError(f"stack.assets: {error}") from error


def _suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def choices(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """Return `: choose a, b or c` where the error is about a field of `kind` that takes one of a few words, else ``."""
    field = _field(error, kind)
    found = field.type if field is not None else None
    if not (isinstance(found, type) and issubclass(found, Enum)):
        return ""
    words = [str(one.value) for one in found]
    return f": choose {', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else f": write {words[0]}"


def _given(error: msgspec.ValidationError, kind: type[msgspec.Struct], values: Tree) -> str:
    """Return what was given for the field that the error is about, and an example of what may be."""
    field = _field(error, kind)
    if field is None or field.name not in values:
        return ""
    default = field.default
    example = str(default).lower() if isinstance(default, bool) else str(default)
    has_example = isinstance(default, int | float | str | Decimal) and example != ""
    return f", got {values[field.name]!r}" + (f": write for example {example}" if has_example else "")


def _field(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> msgspec.structs.FieldInfo | None:
    """Return the field of `kind` that the error is about, None where it is about more or less than one."""
    key = str(error).rpartition(" - at `$.")[2].rstrip("`")
    return next((field for field in msgspec.structs.fields(kind) if field.name == key), None)


def _located(error: msgspec.ValidationError) -> str:
    text, separator, location = str(error).rpartition(" - at `$")
    if not separator:
        return f": {error}"
    # What was given in msgspec's words is a type; in ours, which follow, the value.
    return f"{location.rstrip('`')}: {text.partition(', got `')[0]}"
