"""A finished backtest as one HTML file: curves, weights, months, rebalances, trades, and what was run.

In: a result. Out: a file that opens anywhere, without a network. Never: a script or a style that is not its own.
"""

from services.backtest.report.write import render, write_report

__all__ = ["render", "write_report"]
