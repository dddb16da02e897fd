"""The engine: pure, over the live cores. `Engine` runs a `Strategy` over the steps of a feed."""

from services.backtest.core.engine import Engine, EngineConfig, FillTiming
from services.backtest.core.strategy import (
    Account,
    AccountMoved,
    Answer,
    IntentRefused,
    Opened,
    OrderMoved,
    StepClosed,
    Strategy,
    StrategyEvent,
    StrategyParams,
)

__all__ = [
    "Account",
    "AccountMoved",
    "Answer",
    "Engine",
    "EngineConfig",
    "FillTiming",
    "IntentRefused",
    "Opened",
    "OrderMoved",
    "StepClosed",
    "Strategy",
    "StrategyEvent",
    "StrategyParams",
]
