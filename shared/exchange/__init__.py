"""Venues behind one port: real ones, and the paper venue that fills against market data."""

from shared.exchange.dual import DualExchange, ExchangeConfig

__all__ = ["DualExchange", "ExchangeConfig"]
