"""The cascade rules as a plain loop over dicts and floats: the named baseline of the backtest's benchmark.

What a competent person writes first: one bar after the other, each asset by its name, no journal, no grids, no ledger.
The same decisions as `cascade_floats`, which is tuned (lists, one pass, no dicts). Nothing but the standard library.
"""

from dataclasses import dataclass, field

SLIPPAGE = 0.0003


@dataclass
class Rules:
    """Hold the rules' numbers."""

    upside: float
    downside: float
    sell_share: float
    reserve: float
    least: float
    cooldown_ns: float
    limit: float
    buffer: float
    outperformer_part: float
    fee: float


@dataclass
class Portfolio:
    """Hold what is owned."""

    usdt: float
    quantities: dict[str, float]
    ready_ns: dict[str, int] = field(default_factory=dict)

    def sell(self, asset: str, amount: float, price: float, fee: float) -> None:
        """Sell for `amount` at a worse price."""
        self.quantities[asset] -= amount / price
        self.usdt += amount * (1 - SLIPPAGE) * (1 - fee)

    def buy(self, asset: str, amount: float, price: float, fee: float) -> None:
        """Spend `amount` at a worse price; the fee is taken of what is bought."""
        self.quantities[asset] += amount * (1 - fee) / (price * (1 + SLIPPAGE))
        self.usdt -= amount


def find_trigger(values: dict[str, float], usdt: float, now_ns: int, ready_ns: dict[str, int], rules: Rules):
    """Return (asset, kind) of the most urgent breach, or None."""
    total = sum(values.values())
    mean, worth = total / len(values), total + usdt
    found, urgency = None, 0.0
    for asset, value in values.items():
        deviation = value / mean - 1
        if rules.limit < 1 and value > rules.limit * worth:
            one, kind = 1e9 + value, "limit"
        elif deviation > rules.upside:
            one, kind = deviation / rules.upside, "upside"
        elif deviation < -rules.downside:
            one, kind = -deviation / rules.downside, "downside"
        else:
            continue
        if one > urgency and now_ns >= ready_ns.get(asset, 0):
            found, urgency = (asset, kind), one
    return found


def orders_for(asset: str, kind: str, values: dict[str, float], usdt: float, rules: Rules):
    """Return ({asset: USDT to sell for}, {asset: USDT to spend})."""
    total = sum(values.values())
    mean, worth, value = total / len(values), total + usdt, values[asset]
    if kind == "limit":
        return {asset: (value - rules.limit * worth) / (1 - rules.limit * rules.fee)}, {}
    if kind == "upside":
        sold = value * rules.sell_share
        if sold < rules.least:
            return {}, {}
        proceeds = sold * (1 - rules.fee)
        spent = min(proceeds * (1 - rules.reserve), max(usdt + proceeds - rules.buffer * worth, 0.0))
        each = spent / (len(values) - 1)
        buys = {}
        for other, held in values.items():
            amount = min(each, rules.limit * worth - held) if rules.limit < 1 else each
            if other != asset and amount >= rules.least:
                buys[other] = amount
        return {asset: sold}, buys
    gap = mean - value
    if rules.limit < 1:
        gap = min(gap, rules.limit * worth - value)
    spendable, sells = usdt - rules.buffer * worth, {}
    missing = gap - spendable
    if missing > 0 and gap >= rules.least:
        over = sum(max(held - mean, 0.0) for held in values.values())
        for other, held in values.items():
            if held > mean:
                share = missing / (1 - rules.fee) * (held - mean) / over
                amount = min(share, held - mean, held * rules.outperformer_part)
                if amount >= rules.least:
                    sells[other] = amount
                    spendable += amount * (1 - rules.fee)
    bought = min(gap, max(spendable, 0.0))
    return sells, {asset: bought} if bought >= rules.least else {}


def run(bars, capital: float, numbers):
    """Return (equity curve, rebalances) over `bars`: a list of (close time, {asset: close})."""
    rules = Rules(*numbers)
    portfolio = Portfolio(capital, dict.fromkeys(bars[0][1], 0.0))
    curve, rebalances = [], 0
    for now_ns, closes in bars:
        values = {asset: quantity * closes[asset] for asset, quantity in portfolio.quantities.items()}
        total = sum(values.values())
        sells, buys = {}, {}
        if total < rules.least:
            invested = portfolio.usdt - max(rules.reserve, rules.buffer) * (total + portfolio.usdt)
            each = invested / len(values)
            if each >= rules.least:
                buys = dict.fromkeys(values, each)
        else:
            trigger = find_trigger(values, portfolio.usdt, now_ns, portfolio.ready_ns, rules)
            if trigger is not None:
                asset, kind = trigger
                portfolio.ready_ns[asset] = now_ns + int(rules.cooldown_ns)
                sells, buys = orders_for(asset, kind, values, portfolio.usdt, rules)
        for asset, amount in sells.items():
            portfolio.sell(asset, amount, closes[asset], rules.fee)
        for asset, amount in buys.items():
            portfolio.buy(asset, amount, closes[asset], rules.fee)
        if sells or buys:
            rebalances += 1
        curve.append(portfolio.usdt + sum(quantity * closes[asset] for asset, quantity in portfolio.quantities.items()))
    return curve, rebalances
