"""Venues behind one port: real ones, and the paper venue that fills against market data."""
