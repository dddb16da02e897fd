"""The contract between services, in flow order: market, signal, order, risk, account, decision, command, system.

Encode with `encode`, decode with `decode`. A frame of another schema raises `DecodeError` and is dead-lettered.
"""

from shared.messages.account import AccountSnapshot, Balance, Position
from shared.messages.base import Message, Side
from shared.messages.codec import AnyMessage, decode, encode, other_schemas, schema_hash
from shared.messages.command import Command, CommandAudit, CommandReply
from shared.messages.decision import DecisionRecord
from shared.messages.instrument import Instrument
from shared.messages.market import (
    RELEASED,
    Bar,
    BarsClosed,
    Bbo,
    BookSnapshot,
    FeedState,
    InstrumentDefinition,
    MarketStatus,
    Trade,
)
from shared.messages.order import (
    TERMINAL_STATES,
    Fill,
    Liquidity,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderState,
    OrderType,
    RefusalCode,
    TimeInForce,
)
from shared.messages.risk import RiskHalt, RiskState, TradingState
from shared.messages.signal import Direction, Signal
from shared.messages.system import DeadLetter, Heartbeat, Progress
from shared.messages.trade_batch import TradeBatch

__all__ = [
    "RELEASED",
    "TERMINAL_STATES",
    "AccountSnapshot",
    "AnyMessage",
    "Balance",
    "Bar",
    "BarsClosed",
    "Bbo",
    "BookSnapshot",
    "Command",
    "CommandAudit",
    "CommandReply",
    "DeadLetter",
    "DecisionRecord",
    "Direction",
    "FeedState",
    "Fill",
    "Heartbeat",
    "Instrument",
    "InstrumentDefinition",
    "Liquidity",
    "MarketStatus",
    "Message",
    "OrderApproved",
    "OrderEvent",
    "OrderIntent",
    "OrderRefused",
    "OrderState",
    "OrderType",
    "Position",
    "Progress",
    "RefusalCode",
    "RiskHalt",
    "RiskState",
    "Side",
    "Signal",
    "TimeInForce",
    "Trade",
    "TradeBatch",
    "TradingState",
    "decode",
    "encode",
    "other_schemas",
    "schema_hash",
]
