"""Binance spot: market data and orders over the wire.

In: Binance's REST answers, market streams, and user data stream. Out: our messages and reports.
Never: ccxt's word for an outcome: the venue's own codes decide; a book after a gap; a write sent twice by itself.
"""

from shared.exchange.binance.market import BinanceMarket
from shared.exchange.binance.venue import BinanceVenue

__all__ = ["BinanceMarket", "BinanceVenue"]
