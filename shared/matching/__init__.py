"""Matching: a price-time order book, fees, and the one fill model against bars. Pure and deterministic.

In: orders and market prices. Out: executions on the instrument's grid. Never: an inexact sum or product of money.
"""

from shared.matching.bar_fill import BarFill, FillModel
from shared.matching.engine import MatchingEngine
from shared.matching.fees import FeeMode, FeeSchedule, fee_of
from shared.matching.orders import (
    BookLevel,
    Execution,
    NewOrder,
    Outcome,
    OutcomeReason,
    OutcomeState,
    SelfTradePrevention,
)

__all__ = [
    "BarFill",
    "BookLevel",
    "Execution",
    "FeeMode",
    "FeeSchedule",
    "FillModel",
    "MatchingEngine",
    "NewOrder",
    "Outcome",
    "OutcomeReason",
    "OutcomeState",
    "SelfTradePrevention",
    "fee_of",
]
