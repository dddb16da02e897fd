"""One venue, both sides: what it says to everybody (prices, instruments) and what it does for us (orders, balances).

In: a configuration, the symbols to trade. Out: the venue as one object of the process.
Never: a connection to a real venue's account by accident: that needs `mode="live"`, key files and two switches.
"""

import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import ClassVar

import msgspec

from shared.config import WIRE_VENUES, Mode, StackConfig
from shared.domain.instruments import split_symbol
from shared.errors import ConfigError, InputError
from shared.exchange.access import ExchangeAccess, market_wire, trading_wire
from shared.exchange.dual_wire import OnBbo, OnBook, OnReport, OnStatus, OnTrades, WireSides
from shared.exchange.live.config import WireConfig
from shared.exchange.paper_book import PaperBook
from shared.exchange.paper_memory import MemoryRecords
from shared.matching import FeeSchedule, FillModel
from shared.messages import Balance

PAPER = "paper"
_SECRETS = ("api_key", "secret")


class ExchangeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configure a venue. `venue` is `paper` (simulated fills with simulated money), `mexc` or `binance`.

    `mode` of a venue at a wire is `sandbox` (addresses and key as `cascade sandbox --json` prints them: `rest_url`,
    `ws_url`, `ws_api_url`, `api_key`, `secret`) or `live` (keys only in files of mode 0600, `key_file` and
    `secret_file`, for MEXC `key_cannot_withdraw`; `armed` and CASCADE_LIVE_ARMED=yes). Without a key there is market
    data alone.

    The paper venue's market is a replay of `data` (a CSV or Parquet file, or a folder; without it CASCADE_DATA), or,
    when there is none, a made-up market of `seed` with bars of `timeframe`. `speed` is a factor of real time, or `max`.
    """

    venue: str = PAPER
    data: str | None = None
    timeframe: str = "15m"
    speed: float | str = 900.0
    seed: int = 1
    initial_capital: Decimal = Decimal(10_000)
    quote_asset: str = "USDT"
    half_spread_bps: Decimal = Decimal(1)
    slippage_bps: Decimal = Decimal(2)
    fee_rate: Decimal = Decimal("0.001")
    mode: str = Mode.SANDBOX.value
    rest_url: str | None = None
    ws_url: str | None = None
    ws_api_url: str | None = None
    api_key: str = ""
    secret: str = ""
    key_file: str | None = None
    secret_file: str | None = None
    key_cannot_withdraw: bool = False
    armed: bool = False

    def __post_init__(self) -> None:
        for name in ("initial_capital", "half_spread_bps", "slippage_bps", "fee_rate"):
            value = getattr(self, name)
            exact = value if isinstance(value, Decimal) else Decimal(repr(value))
            msgspec.structs.force_setattr(self, name, exact)
        if not self.initial_capital.is_finite() or self.initial_capital <= 0:
            raise ValueError(f"initial_capital must be a positive amount, got {self.initial_capital}")
        self.fill_model()

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return f"ExchangeConfig({', '.join(f'{n}={"…" if n in _SECRETS and v else v!r}' for n, v in shown)})"

    def fill_model(self) -> FillModel:
        """Return how the paper venue prices fills and fees."""
        fees = FeeSchedule(maker_rate=self.fee_rate, taker_rate=self.fee_rate)
        return FillModel(half_spread_bps=self.half_spread_bps, slippage_bps=self.slippage_bps, fees=fees)


class DualExchange:
    """Be one venue. `get_instance` gives the process's own; `initialize` names what is traded."""

    _instances: ClassVar[dict[ExchangeConfig, "DualExchange"]] = {}

    def __init__(self, config: ExchangeConfig) -> None:
        if config.venue not in (PAPER, *WIRE_VENUES):
            raise ConfigError(f"venue {config.venue!r} is not known: set venue to {PAPER}, {' or '.join(WIRE_VENUES)}")
        self.config = config
        self.symbols: tuple[str, ...] = ()
        self._wire = None if config.venue == PAPER else WireSides(_wire_config(config))
        self._paper = PaperBook(
            MemoryRecords(),
            venue=PAPER,
            model=config.fill_model(),
            initial_deposit={config.quote_asset: config.initial_capital},
        )
        self._user: object | None = None

    @property
    def book(self) -> PaperBook:
        """Return the paper venue's book; raises ConfigError for a venue at a wire, whose account is its own."""
        if self._wire is not None:
            raise ConfigError(f"{self.config.venue} fills by itself: only venue {PAPER!r} has a book in this process")
        return self._paper

    @property
    def wire(self) -> WireSides:
        """Return both sides of a venue at a wire; raises ConfigError for the paper venue, which has none."""
        if self._wire is None:
            raise ConfigError(f"venue {PAPER!r} has no wire: set venue to {' or '.join(WIRE_VENUES)}")
        return self._wire

    @property
    def is_paper(self) -> bool:
        """Tell whether the venue is the paper venue in this process."""
        return self._wire is None

    @classmethod
    def get_instance(cls, config: object = None) -> "DualExchange":
        """Return the process's venue of this configuration; the same one for the same configuration.

        `config` is an `ExchangeConfig`, a mapping of its keys, None, or a strategy's configuration, of which only
        `fee_rate` is taken. Raises ConfigError for a venue that cannot be connected and for values that cannot be.
        """
        own = _config_of(config)
        if own not in cls._instances:
            cls._instances[own] = cls(own)
        return cls._instances[own]

    async def initialize(self, symbols: Sequence[str]) -> None:
        """Prepare to trade `symbols`, in any usual spelling, with or without the quote asset; connect a wire.

        Raises ConfigError for a symbol priced in another asset than the account's, given twice, or not traded by the
        venue, for credentials that it refuses or that may withdraw; UnavailableError when it does not answer.
        """
        tokens = tuple(self._token(symbol) for symbol in symbols)
        if len(set(tokens)) != len(tokens) or not tokens:
            raise ConfigError(f"symbols must name each market once, got {', '.join(symbols) or 'none'}")
        if self._wire is not None:
            await self._wire.open(tokens)
        self.symbols = tokens

    def bind(
        self,
        *,
        on_trades: OnTrades | None = None,
        on_bbo: OnBbo | None = None,
        on_book: OnBook | None = None,
        on_status: OnStatus | None = None,
        on_report: OnReport | None = None,
    ) -> None:
        """Call these with what the venue says; bind before `initialize` to miss nothing. They must return at once.

        `on_report` gets the account's orders, trades and the state of its stream. Raises ConfigError for paper.
        """
        self.wire.bind(on_trades=on_trades, on_bbo=on_bbo, on_book=on_book, on_status=on_status, on_report=on_report)

    def token(self, symbol: str) -> str:
        """Return the bus token of one of the initialized symbols; raises ConfigError for any other."""
        token = self._token(symbol)
        if token not in self.symbols:
            known = ", ".join(self.symbols) or "none: await exchange.initialize(symbols) first"
            raise ConfigError(f"{symbol} was not initialized; initialized are {known}")
        return token

    def balances(self) -> tuple[Balance, ...]:
        """Return what the paper account holds; a wire's `venue.balances()` asks the venue."""
        return self.book.balances()

    def claim(self, user: object) -> None:
        """Make `user` the one whose orders this account takes; raises ConfigError when somebody else is."""
        if self._user is not None and self._user is not user:
            raise ConfigError("this exchange is in use: one account has one rebalancer; close() it, or take another")
        self._user = user

    async def close(self) -> None:
        """Let go of the venue; `get_instance` then makes a new one."""
        self._instances.pop(self.config, None)
        self._paper.close()
        if self._wire is not None:
            await self._wire.close()

    def _token(self, symbol: str) -> str:
        quote = self.config.quote_asset
        text = symbol.strip().upper()
        if "-" in text or "/" in text:
            try:
                base, own_quote = split_symbol(text)
            except InputError as error:
                raise ConfigError(str(error)) from error
            if own_quote != quote:
                raise ConfigError(f"{symbol} is priced in {own_quote}, the account in {quote}")
            return f"{base}-{quote}"
        base = text.removesuffix(quote) or text
        if not base.isalnum():
            raise ConfigError(f"{symbol!r} is no market: write it as BASE-{quote}, for example BTC-{quote}")
        return f"{base}-{quote}"


def _wire_config(config: ExchangeConfig) -> WireConfig:
    try:
        mode = Mode(config.mode)
    except ValueError as error:
        raise ConfigError(f"mode must be sandbox or live for venue {config.venue}, got {config.mode!r}") from error
    if mode not in (Mode.SANDBOX, Mode.LIVE):
        raise ConfigError(f"mode must be sandbox or live for venue {config.venue}, got {config.mode!r}")
    access = ExchangeAccess(
        rest_url=config.rest_url,
        ws_url=config.ws_url,
        ws_api_url=config.ws_api_url,
        key_file=config.key_file,
        secret_file=config.secret_file,
        key_cannot_withdraw=config.key_cannot_withdraw,
        armed=config.armed,
    )
    stack = StackConfig(mode=mode, venue=config.venue)
    if config.api_key or config.secret:
        if mode is Mode.LIVE:
            raise ConfigError("live keys come from files alone: set key_file and secret_file, not api_key and secret")
        wire = market_wire(stack, access)
        return msgspec.structs.replace(wire, api_key=config.api_key, secret=config.secret)
    if config.key_file is None and config.secret_file is None:
        return market_wire(stack, access)
    return trading_wire(stack, access, os.environ)


def _config_of(config: object) -> ExchangeConfig:
    if isinstance(config, ExchangeConfig):
        return config
    try:
        if config is None:
            return ExchangeConfig()
        if isinstance(config, Mapping):
            return msgspec.convert(dict(config), ExchangeConfig, strict=False)
        fee_rate = getattr(config, "fee_rate", None)
        return ExchangeConfig() if fee_rate is None else ExchangeConfig(fee_rate=fee_rate)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError(f"the exchange's configuration cannot be used: {error}") from error
