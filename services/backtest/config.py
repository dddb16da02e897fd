"""A backtest's settings: the services' own sections, and what only a backtest needs.

In: the user's numbers. Out: a frozen, checked Struct. Never: a limit or a rule that the services do not have.
"""

from decimal import Decimal

import msgspec

from services.backtest.core.engine import EngineConfig, FillTiming
from services.execution.config import ExecutionConfig
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.errors import ConfigError
from shared.messages import Instrument

# The names that `cascade up` uses in its sandbox: ids of plans and orders depend on them.
VENUE, ACCOUNT = "sandbox", "paper"
NOTIONAL_MAX_CEILING = Decimal(5_000_000)


class BacktestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold everything that a run depends on beside the candles. `capital` is money in `quote_asset`."""

    capital: Decimal = Decimal(10_000)
    quote_asset: str = "USDT"
    fills: FillTiming = FillTiming.CLOSE
    rebalancer: RebalanceConfig = RebalanceConfig()
    execution: ExecutionConfig = ExecutionConfig()
    risk: RiskConfig = RiskConfig()

    def __post_init__(self) -> None:
        # A word is taken for what it names: the engine tells the two apart by identity.
        msgspec.structs.force_setattr(self, "fills", FillTiming(self.fills))
        if not self.capital.is_finite() or self.capital <= 0:
            raise ValueError(f"capital must be a positive amount, got {self.capital}: give for example 10000")

    def engine(self, timeframe: str, timeframe_ns: int) -> EngineConfig:
        """Return what the engine needs, for bars of this length."""
        return EngineConfig(
            venue=VENUE,
            account=ACCOUNT,
            quote_asset=self.quote_asset,
            initial_quote=self.capital,
            timeframe=timeframe,
            timeframe_ns=timeframe_ns,
            model=self.execution.fill_model(),
            limits=self.risk.limits(self.quote_asset, timeframe_ns, is_exclusive=True),
            timing=self.fills,
        )


def risk_for(rules: RebalanceConfig, capital: Decimal, risk: RiskConfig, given: frozenset[str]) -> RiskConfig:
    """Return the gate's limits, those that nobody gave (`given` names the others) following the question asked.

    A looser position limit of the rules loosens the gate's; capital beyond the largest order of the default gate
    raises that. `cascade up` follows in the same way; services that are started by hand or by compose do not.
    """
    changed: dict[str, Decimal] = {}
    if "position_limit" not in given and rules.position_limit > risk.position_limit:
        changed["position_limit"] = rules.position_limit
    if "notional_max_usdt" not in given and capital > risk.notional_max_usdt:
        changed["notional_max_usdt"] = min(capital, NOTIONAL_MAX_CEILING)
    return msgspec.structs.replace(risk, **changed)


def check_capital(settings: BacktestSettings, instruments: tuple[Instrument, ...]) -> None:
    """Refuse a capital whose equal parts are below the smallest order; raises ConfigError with the least that works."""
    rules = settings.rebalancer
    spent_share = 1 - max(rules.usdt_reserve, rules.usdt_buffer)
    smallest, where = max((max(rules.min_order_value, one.notional_min), one.symbol) for one in instruments)
    count = len(rules.assets)
    if settings.capital * spent_share / count < smallest:
        least = smallest * count / spent_share
        raise ConfigError(
            f"capital {settings.capital} is too small: {count} equal parts of the {spent_share * 100:.0f} % that are "
            f"invested are below the smallest order of {smallest} ({where}). Give at least {least.__ceil__()}, fewer "
            "assets, or a lower min_order_value"
        )
