"""MEXC spot, over its own wire: REST signed by ccxt, protobuf streams with books of our own.

In: settings and markets. Out: `MexcMarket` (prices) and `MexcVenue` (orders). Never: what ccxt gets wrong with MEXC: a
book after a lost frame, a fill held back, an acknowledgement without an id.
"""

from shared.exchange.mexc.market import MexcMarket
from shared.exchange.mexc.venue import MexcVenue

__all__ = ["MexcMarket", "MexcVenue"]
