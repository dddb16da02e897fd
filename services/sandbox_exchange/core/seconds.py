"""Candles of a second, made out of the public trades that are kept.

In: trades, oldest first. Out: the candles of any seconds that those trades tell whole. Never: a second of which a part
was forgotten.
"""

from collections import deque
from collections.abc import Sequence

from services.sandbox_exchange.core.candles import Candles
from services.sandbox_exchange.core.intervals import SECOND_NS
from services.sandbox_exchange.core.model import Kline, PublicTrade
from shared.matching.exact import multiply


def second_klines(
    symbol: str, trades: deque[PublicTrade], *, start_ns: int | None, end_ns: int | None, limit: int, now_ns: int
) -> Sequence[Kline]:
    """Return candles that open from `start_ns` to `end_ns`, oldest first; without a start the last `limit`."""
    last_ns = min(now_ns, end_ns if end_ns is not None else now_ns)
    first_ns = start_ns if start_ns is not None else last_ns - last_ns % SECOND_NS - (limit - 1) * SECOND_NS
    wanted: list[PublicTrade] = []
    for trade in reversed(trades):
        wanted.append(trade)
        if trade.time_ns < first_ns:
            break  # it says at which price the first second began
    is_all = bool(wanted) and len(wanted) == len(trades)
    if is_all and wanted[-1].trade_id > 1:
        # What else was traded in the oldest second is forgotten. Its last price is known all the same.
        oldest_ns = wanted[-1].time_ns // SECOND_NS
        while len(wanted) > 1 and wanted[-2].time_ns // SECOND_NS == oldest_ns:
            wanted.pop()
        first_ns = max(first_ns, (oldest_ns + 1) * SECOND_NS)
    candles = Candles({SECOND_NS: len(wanted) + 1})
    for trade in reversed(wanted):
        notional = multiply(trade.price, trade.quantity)
        candles.trade(trade.taker_side, trade.price, trade.quantity, notional, now_ns=trade.time_ns)
    found = candles.query(symbol, SECOND_NS, start_ns=start_ns, end_ns=end_ns, limit=limit, now_ns=now_ns)
    return [one for one in found if one.open_ns >= first_ns]
