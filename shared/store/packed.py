"""Batches of trades to columns: their bytes laid end to end, no number looked at.

In: rows that are whole batches. Out: Arrow arrays under the names of `Trade`, equal to those made of trade by trade.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from shared.messages import Side, TradeBatch
from shared.store.port import Row
from shared.store.runs import Runs

_NUMBERS = {"price": "<f8", "quantity": "<f8", "ts_event_ns": "<i8", "ts_recv_ns": "<i8", "sequence": "<i8"}
_SIDES = pa.array([Side.SELL.value, Side.BUY.value])


def batches_of(rows: Sequence[Row]) -> list[TradeBatch] | None:
    """Return the batches that make up all of `rows`; None where any of them is something else."""
    if not isinstance(rows, Runs):
        return None
    found = [run.messages for run in rows.runs if isinstance(run.messages, TradeBatch)]
    return found if len(found) == len(rows.runs) else None


def trade_columns(batches: Sequence[TradeBatch]) -> dict[str, pa.Array]:
    """Return the trades of `batches` in order as columns."""
    counts = [len(batch) for batch in batches]
    sides = np.frombuffer(b"".join([batch.side for batch in batches]), np.uint8)
    columns = {
        "venue": repeated([batch.venue for batch in batches], counts, pa.string()),
        "instrument": repeated([batch.instrument for batch in batches], counts, pa.string()),
        "trade_id": pa.array(list(chain.from_iterable(batch.trade_id for batch in batches)), pa.string()),
        "side": _SIDES.take(pa.array(sides)),
    }
    for name, kind in _NUMBERS.items():
        data = b"".join([getattr(batch, name) for batch in batches])
        columns[name] = pa.array(np.frombuffer(data, kind).astype(kind[1:], copy=False))
    return columns


def repeated(values: Sequence[object], counts: Sequence[int], kind: pa.DataType) -> pa.Array:
    """Return each value as often as its count says."""
    return pa.array(values, kind).take(pa.array(np.repeat(np.arange(len(values)), counts)))
