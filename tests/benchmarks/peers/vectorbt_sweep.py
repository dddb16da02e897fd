"""The same sweep in vectorbt, run by a Python that has it: vectorbt_sweep.py CANDLES.npz RULES.json

Prints one JSON object: CPU seconds of warm runs, the seconds of the first (compiling) call, and what each rule came to.
Every rule is a group of columns with shared cash; the plan is made once a bar and group, sells are called first.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import vectorbt as vbt
from cascade_floats import ALLOCATION, NOTHING, SLIPPAGE, plan
from numba import njit
from vectorbt.portfolio.enums import NoOrder
from vectorbt.portfolio.nb import order_nb

plan_nb = njit(plan)


@njit
def pre_segment(c, times_ns, rules, ready_ns, amounts, rebalances):  # noqa: PLR0917 - vectorbt calls it so
    first, last = c.from_col, c.to_col
    r = rules[c.group]
    rule = (r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9])
    prices, held = c.close[c.i, first:last], c.last_position[first:last]
    own, ready = amounts[first:last], ready_ns[first:last]
    fired = plan_nb(prices, held, c.last_cash[c.group], ready, times_ns[c.i], rule, own)
    if fired == NOTHING:
        own[:] = 0.0
        return ()
    if fired != ALLOCATION:
        ready[fired] = times_ns[c.i] + np.int64(rule[5])
    traded = False
    place = 0
    for side in (-1.0, 1.0):
        for i in range(last - first):
            if own[i] * side > 0.0:
                traded = True
    for i in range(last - first):
        if own[i] < 0.0:
            c.call_seq_now[place] = i
            place += 1
    for i in range(last - first):
        if own[i] >= 0.0:
            c.call_seq_now[place] = i
            place += 1
    rebalances[c.group] += traded
    return ()


@njit
def order(c, rules, amounts):
    amount = amounts[c.col]
    if amount == 0.0:
        return NoOrder
    price, fee = c.close[c.i, c.col], rules[c.group, 9]
    if amount < 0.0:
        return order_nb(amount / price, price, fees=fee, slippage=SLIPPAGE)
    return order_nb(amount * (1.0 - fee) / (price * (1.0 + SLIPPAGE)), price, fees=fee, slippage=SLIPPAGE)


def sweep(closes, times_ns, rules, cash):
    """Return (final values, deepest falls, rebalances) by rule."""
    count, groups = closes.shape[1], len(rules)
    amounts, ready = np.zeros(count * groups), np.zeros(count * groups, dtype=np.int64)
    rebalances = np.zeros(groups, dtype=np.int64)
    portfolio = vbt.Portfolio.from_order_func(
        np.tile(closes, groups),
        order,
        rules,
        amounts,
        pre_segment_func_nb=pre_segment,
        pre_segment_args=(times_ns, rules, ready, amounts, rebalances),
        group_by=np.repeat(np.arange(groups), count),
        cash_sharing=True,
        init_cash=cash,
        update_value=False,
        ffill_val_price=True,
        max_orders=200_000,
    )
    return portfolio.final_value().to_numpy(), portfolio.max_drawdown().to_numpy(), rebalances


def main():
    """Print the measurement."""
    stored, given = np.load(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    closes, times_ns, rules = stored["closes"], stored["close_ns"], np.array(given["rules"])
    began = time.perf_counter()
    sweep(closes[:500], times_ns[:500], rules[:2], given["cash"])
    first_s = time.perf_counter() - began
    seconds = []
    for _ in range(given["repeats"]):
        began = time.process_time()
        values, falls, rebalances = sweep(closes, times_ns, rules, given["cash"])
        seconds.append(time.process_time() - began)
    out = {
        "version": vbt.__version__,
        "first_s": first_s,
        "seconds": seconds,
        "final_values": values.tolist(),
        "drawdowns": (-falls).tolist(),
        "rebalances": rebalances.tolist(),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main()
