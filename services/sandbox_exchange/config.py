"""What a sandbox venue is started with.

In: settings, options of the command line, a file of faults. Out: one frozen value that has been checked.
Never: a host that others reach, unless it was said twice; a setting that is silently replaced.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path

import msgspec

from services.sandbox_exchange.core.fault_schedule import FaultSchedule
from services.sandbox_exchange.core.faults import Fault, FaultName
from services.sandbox_exchange.core.history import HISTORY_LEAST, HISTORY_MAX
from shared.domain.instruments import split_symbol
from shared.errors import ConfigError, InputError

NAME = "sandbox_exchange"
_FAULTS_FILE = f"It takes a [[faults]] for each fault (with {', '.join(Fault.__struct_fields__)})"
SYMBOLS = ("RIVERUSDT", "HUSDT", "PENGUUSDT", "TAOUSDT")


class VenueName(StrEnum):
    """Name the venue whose words the sandbox speaks."""

    MEXC = "mexc"
    BINANCE = "binance"


class Source(StrEnum):
    """Name where the markets come from."""

    SYNTHETIC = "synthetic"  # a seeded flow of orders
    CANDLES = "candles"  # books and trades around history
    RECORDED = "recorded"  # raw frames, exactly as they were
    STILL = "still"  # a book that nobody moves but the clients and the admin


class MarketVerb(StrEnum):
    """Name what the admin does to a market."""

    PAUSE = "pause"
    RESUME = "resume"
    DELIST = "delist"
    CANCEL_ONLY = "cancel_only"
    REDENOMINATE = "redenominate"
    BUY_ONLY = "buy_only"
    SELL_ONLY = "sell_only"
    BOTH_SIDES = "both_sides"


class SandboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configure one venue. Ports of 0 take free ones; `host` is loopback unless `open_to_network` is true as well.

    `balances` are texts `ASSET=AMOUNT`. `speed` is market seconds a second (by default 60, with candles 600, with
    recordings 1; 0 there is as fast as clients read). `symbols` left out are the recording's market, or four markets
    that the sandbox knows. `state_file` keeps everything over restarts, `key_file` (JSON, mode 0600) the trading key;
    of each account's ended orders and executions `history_max` are kept, the newest (its open orders and their
    executions, whatever their number). `announce_file` gets the line that tells the addresses and the key, once the
    venue answers.
    """

    venue: VenueName = VenueName.MEXC
    host: str = "127.0.0.1"
    open_to_network: bool = False
    port: int = 0
    admin_port: int = 0
    symbols: tuple[str, ...] = ()
    seed: int = 1
    source: Source = Source.SYNTHETIC
    candles: str | None = None
    recorded: str | None = None
    speed: float | None = None
    balances: tuple[str, ...] = ("USDT=10000",)
    state_file: str | None = None
    state_interval_s: float = 1.0
    history_max: int = HISTORY_MAX
    key_file: str | None = None
    announce_file: str | None = None
    faults_file: str | None = None
    chaos_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("port", "admin_port"):
            if not 0 <= getattr(self, name) <= 65_535:
                raise ValueError(f"{name} must be a port from 0 (a free one) to 65535, got {getattr(self, name)}")
        if not self.open_to_network and not is_loopback(self.host):
            raise ValueError(f"host {self.host!r} is not loopback: use 127.0.0.1, or set open_to_network=true as well")
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"symbols names a market twice: {', '.join(self.symbols)}")
        for symbol in self.symbols:
            _check_symbol(symbol)
        least = 0.0 if self.source is Source.RECORDED else 1e-9
        if self.speed is not None and not least <= self.speed < float("inf"):
            raise ValueError(f"speed must be positive (0, as fast as possible, with recorded alone), got {self.speed}")
        if not 0 < self.state_interval_s <= 3600:
            raise ValueError(f"state_interval_s must be above 0 and at most 3600, got {self.state_interval_s}")
        if self.history_max < HISTORY_LEAST:
            raise ValueError(f"history_max must be {HISTORY_LEAST} records or more, got {self.history_max}")
        for source, file in ((Source.CANDLES, self.candles), (Source.RECORDED, self.recorded)):
            if (self.source is source) != (file is not None):
                raise ValueError(f"source={source} and {source.value} (its file) belong together: give both or none")
        if self.source is Source.RECORDED and self.venue is not VenueName.BINANCE:
            raise ValueError("recorded: recordings are Binance's frames, so venue must be binance")
        self.deposits  # noqa: B018 - raises for a balance that is none

    @property
    def markets(self) -> tuple[str, ...]:
        """Return the markets with a background of their own."""
        return self.symbols if self.symbols or self.source is Source.RECORDED else SYMBOLS

    @property
    def deposits(self) -> Mapping[str, Decimal]:
        """Return what the trading account begins with."""
        found: dict[str, Decimal] = {}
        for text in self.balances:
            asset, _, amount = text.partition("=")
            try:
                value = Decimal(amount)
            except InvalidOperation:
                value = Decimal("NaN")
            if not re.fullmatch(r"[A-Z0-9]{1,20}", asset) or not value.is_finite() or value < 0:
                raise ValueError(f"balances: {text!r} must be ASSET=AMOUNT, for example USDT=10000")
            if asset in found:
                raise ValueError(f"balances names {asset} twice")
            found[asset] = value
        return found


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_schedule(path: Path) -> FaultSchedule:
    """Read a faults file: TOML or JSON with `faults = [{name = …}]` and an optional `seed`.

    Raises ConfigError that names the file, the field and the fix.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".json":
            return msgspec.json.decode(data, type=FaultSchedule)
        return msgspec.convert(tomllib.loads(data.decode()), FaultSchedule)
    except OSError as error:
        raise ConfigError(f"faults file {path}: {error.strerror}") from error
    except (ValueError, msgspec.MsgspecError) as error:
        is_name = "enum value" in str(error)
        takes = f"Its names are {', '.join(FaultName)}" if is_name else f"{_FAULTS_FILE}, and seed"
        raise ConfigError(f"faults file {path}: {error}. {takes}") from error


def _check_symbol(symbol: str) -> None:
    try:
        base, quote = split_symbol(symbol)
    except InputError as error:
        raise ValueError(f"symbols: {error}") from error
    if symbol != base + quote or not re.fullmatch(r"[A-Z0-9]{2,30}", symbol):
        raise ValueError(f"symbols: {symbol!r} must be written as the venue does, for example {base + quote!r}")
