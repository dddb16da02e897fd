"""One venue, both sides: what it says to everybody (prices, instruments) and what it does for us (orders, balances).

In: a configuration, the symbols to trade. Out: the venue as one object of the process.
Never: a connection to a real venue by accident: only the paper venue is there today, any other name is refused.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import ClassVar

import msgspec

from shared.domain.instruments import split_symbol
from shared.errors import ConfigError, InputError
from shared.exchange.paper_book import PaperBook
from shared.exchange.paper_memory import MemoryRecords
from shared.matching import FeeSchedule, FillModel
from shared.messages import Balance

PAPER = "paper"


class ExchangeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Configure a venue. `venue` is `paper`: simulated fills with simulated money.

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

    def __post_init__(self) -> None:
        for name in ("initial_capital", "half_spread_bps", "slippage_bps", "fee_rate"):
            value = getattr(self, name)
            exact = value if isinstance(value, Decimal) else Decimal(repr(value))
            msgspec.structs.force_setattr(self, name, exact)
        if not self.initial_capital.is_finite() or self.initial_capital <= 0:
            raise ValueError(f"initial_capital must be a positive amount, got {self.initial_capital}")
        self.fill_model()

    def fill_model(self) -> FillModel:
        """Return how the paper venue prices fills and fees."""
        fees = FeeSchedule(maker_rate=self.fee_rate, taker_rate=self.fee_rate)
        return FillModel(half_spread_bps=self.half_spread_bps, slippage_bps=self.slippage_bps, fees=fees)


class DualExchange:
    """Be one venue. `get_instance` gives the process's own; `initialize` names what is traded."""

    _instances: ClassVar[dict[ExchangeConfig, "DualExchange"]] = {}

    def __init__(self, config: ExchangeConfig) -> None:
        if config.venue != PAPER:
            raise ConfigError(
                f"venue {config.venue!r} has no connection in this version: set venue to {PAPER!r}, which fills with "
                "simulated money against a replay or a made-up market"
            )
        self.config = config
        self.symbols: tuple[str, ...] = ()
        self.book = PaperBook(
            MemoryRecords(),
            venue=PAPER,
            model=config.fill_model(),
            initial_deposit={config.quote_asset: config.initial_capital},
        )
        self._user: object | None = None

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
        """Prepare to trade `symbols`, in any usual spelling, with or without the quote asset.

        Raises ConfigError for a symbol priced in another asset than the account's, or given twice.
        """
        tokens = tuple(self._token(symbol) for symbol in symbols)
        if len(set(tokens)) != len(tokens) or not tokens:
            raise ConfigError(f"symbols must name each market once, got {', '.join(symbols) or 'none'}")
        self.symbols = tokens

    def token(self, symbol: str) -> str:
        """Return the bus token of one of the initialized symbols; raises ConfigError for any other."""
        token = self._token(symbol)
        if token not in self.symbols:
            known = ", ".join(self.symbols) or "none: await exchange.initialize(symbols) first"
            raise ConfigError(f"{symbol} was not initialized; initialized are {known}")
        return token

    def balances(self) -> tuple[Balance, ...]:
        """Return what the account holds."""
        return self.book.balances()

    def claim(self, user: object) -> None:
        """Make `user` the one whose orders this account takes; raises ConfigError when somebody else is."""
        if self._user is not None and self._user is not user:
            raise ConfigError("this exchange is in use: one account has one rebalancer; close() it, or take another")
        self._user = user

    async def close(self) -> None:
        """Let go of the venue; `get_instance` then makes a new one."""
        self._instances.pop(self.config, None)
        self.book.close()

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
