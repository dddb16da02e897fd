"""Backtests: candles and settings come in, the same decisions and fills that the services would make go out.

In: a feed of closed bars, a strategy (the live core itself), the live risk limits and the paper venue's fill rules.
Out: a result with its equity curve, decisions, fills and figures; CSVs; a report.
Never: a decision that saw a later bar; a fill or a refusal that the services would not have given; a run whose books
do not balance.
"""
