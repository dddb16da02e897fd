"""The cascade rules in plain floats, for baselines: what one would write in an afternoon, without grids and ledger.

`plan` is plain Python over lists, and compiles with Numba over arrays. Needs nothing but the standard library.
"""

import math

# A rule is (upside, downside, sell share, reserve, least order, cooldown in ns, position limit, buffer,
# outperformers' limit, fee rate), all floats.
SLIPPAGE = 0.0003
NOTHING, ALLOCATION = -1, -2


def plan(prices, held, usdt, ready_ns, now_ns, rule, amounts):  # noqa: PLR0917 - compiled code takes plain arguments
    """Write USDT to buy (+) or to sell (-) by asset into `amounts`; return the asset that fired, or a code."""
    upside, downside, sell_share, reserve, least, _, limit, buffer, part_max, fee = rule
    count = len(held)
    total = 0.0
    for i in range(count):
        total += prices[i] * held[i]
    if math.isnan(total):
        return NOTHING
    worth = total + usdt
    for i in range(count):
        amounts[i] = 0.0
    if total < least:
        each = (usdt - max(reserve, buffer) * worth) / count
        if each < least:
            return NOTHING
        for i in range(count):
            amounts[i] = each
        return ALLOCATION
    mean = total / count
    fired, urgency = NOTHING, 0.0
    for i in range(count):
        value = prices[i] * held[i]
        away = value / mean - 1.0
        if limit < 1.0 and value > limit * worth:
            found = 1e9 + value
        elif away > upside:
            found = away / upside
        elif -away > downside:
            found = -away / downside
        else:
            continue
        if found > urgency and now_ns >= ready_ns[i]:
            fired, urgency = i, found
    if fired == NOTHING:
        return NOTHING
    value = prices[fired] * held[fired]
    if urgency >= 1e9:
        amounts[fired] = -(value - limit * worth) / (1.0 - limit * fee)
    elif value > mean:
        sold = value * sell_share
        if sold >= least:
            amounts[fired] = -sold
            proceeds = sold * (1.0 - fee)
            each = min(proceeds * (1.0 - reserve), max(usdt + proceeds - buffer * worth, 0.0)) / (count - 1)
            for i in range(count):
                room = limit * worth - prices[i] * held[i] if limit < 1.0 else each
                if i != fired and min(each, room) >= least:
                    amounts[i] = min(each, room)
    else:
        gap = mean - value
        if limit < 1.0:
            gap = min(gap, limit * worth - value)
        spendable = usdt - buffer * worth
        missing = gap - spendable
        if missing > 0.0 and gap >= least:
            over = 0.0
            for i in range(count):
                over += max(prices[i] * held[i] - mean, 0.0)
            for i in range(count):
                one = prices[i] * held[i]
                if one > mean:
                    sold = min(missing / (1.0 - fee) * (one - mean) / over, one - mean, one * part_max)
                    if sold >= least:
                        amounts[i] = -sold
                        spendable += sold * (1.0 - fee)
        bought = min(gap, max(spendable, 0.0))
        if bought >= least:
            amounts[fired] = bought
    return fired


def run(rows, times_ns, usdt, rule):
    """Return (equity curve, rebalances) of a plain loop: one bar after the other, everything at every bar."""
    count = len(rows[0])
    held, ready_ns, amounts = [0.0] * count, [0] * count, [0.0] * count
    curve, rebalances, fee, cooldown_ns = [], 0, rule[9], int(rule[5])
    for prices, now_ns in zip(rows, times_ns, strict=True):
        fired = plan(prices, held, usdt, ready_ns, now_ns, rule, amounts)
        if fired != NOTHING:
            if fired >= 0:
                ready_ns[fired] = now_ns + cooldown_ns
            traded = False
            for i in range(count):
                if amounts[i] < 0.0:
                    held[i] += amounts[i] / prices[i]
                    usdt -= amounts[i] * (1.0 - SLIPPAGE) * (1.0 - fee)
                    traded = True
            for i in range(count):
                if amounts[i] > 0.0:
                    held[i] += amounts[i] * (1.0 - fee) / (prices[i] * (1.0 + SLIPPAGE))
                    usdt -= amounts[i]
                    traded = True
            rebalances += traded
        worth = usdt
        for i in range(count):
            worth += prices[i] * held[i]
        curve.append(worth)
    return curve, rebalances
