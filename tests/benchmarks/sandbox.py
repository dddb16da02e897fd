"""Measure the sandbox venue's core: orders a second against the bare matching engine, and what its markets cost.

Run `python tests/benchmarks/sandbox.py [ACTIONS]`. The same actions go to the engine alone, then to the exchange, which
also checks, locks, books, and keeps trades and candles. Each row is the best of three. The last rows step the
background of ten markets through a minute and say which share of one core that takes on the wall clock.
"""

import sys
import time
from collections.abc import Callable
from decimal import Decimal

from matching import FEES, MARKET, Action, draw_actions

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import (
    HOUSE,
    Account,
    Event,
    LevelChanged,
    Market,
    OrderKind,
    PlaceOrder,
    Refusal,
    TradePrinted,
)
from services.sandbox_exchange.markets.build import MarketsConfig, make_markets, make_runner
from services.sandbox_exchange.markets.profiles import DEFAULT_SYMBOLS
from shared.matching import MatchingEngine

SYMBOL = "BTCUSDT"
MARKETS, SECONDS, STEPS_PER_S = 10, 60, 20


def run_engine(actions: list[Action]) -> int:
    """Return the number of trades that the bare engine made."""
    engine, trades = MatchingEngine(MARKET, FEES), 0
    for action in actions:
        if isinstance(action, str):
            engine.cancel(action)
        else:
            trades += len(engine.submit(action).executions)
    return trades


def requests_of(actions: list[Action], account: str) -> list[PlaceOrder | str]:
    """Return the actions as requests to the exchange."""
    return [
        one
        if isinstance(one, str)
        else PlaceOrder(
            account,
            SYMBOL,
            one.side,
            OrderKind.MARKET if one.limit_price is None else OrderKind.LIMIT,
            quantity=one.quantity,
            price=one.limit_price,
            time_in_force=one.time_in_force,
            client_order_id=one.order_id,
        )
        for one in actions
    ]


def run_exchange(requests: list[PlaceOrder | str], account: str, listener: Callable[[Event], None] | None) -> int:
    """Return the number of trades that the exchange printed."""
    exchange = SandboxExchange(open_orders_max=1_000_000)
    exchange.list_market(Market(SYMBOL, MARKET))
    deposits = {"BTC": Decimal(10) ** 12, "USDT": Decimal(10) ** 15}
    exchange.open_account(Account("trader", "key", "secret"), deposits, 0)
    if listener is not None:
        exchange.listen(listener)
    ids: dict[str, int] = {}
    for now_ns, request in enumerate(requests):
        try:
            if isinstance(request, str):
                exchange.cancel(account, SYMBOL, now_ns, order_id=ids[request])
            else:
                assert request.client_order_id is not None
                ids[request.client_order_id] = exchange.place(request, now_ns)[0].order_id
        except Refusal:
            continue  # the order to cancel was filled
    trades = exchange.trades(SYMBOL, 1)
    return trades[-1].trade_id if trades else 0


def measure(run: Callable[[], int], count: int) -> tuple[float, int]:
    """Return the best of three rates (actions/s) and the number of trades."""
    best, trades = float("inf"), 0
    for _ in range(3):
        start = time.perf_counter()
        trades = run()
        best = min(best, time.perf_counter() - start)
    return count / best, trades


def background(config: MarketsConfig) -> tuple[float, float, float]:
    """Return the share of a core, the book changes and the trades, each a second and a market, of the background."""
    exchange, counts, now_ns = SandboxExchange(), {LevelChanged: 0, TradePrinted: 0}, [0]
    markets = make_markets(config, DEFAULT_SYMBOLS[:MARKETS])
    runner = make_runner(exchange, markets, now_ns=lambda: now_ns[0])

    def note(event: Event) -> None:
        if type(event) in counts:
            counts[type(event)] += 1

    exchange.listen(note)
    runner.step(0.0)
    start = time.process_time()
    for _ in range(SECONDS * STEPS_PER_S):
        now_ns[0] += 1_000_000_000 // STEPS_PER_S
        runner.step(1.0 / STEPS_PER_S)
    share = (time.process_time() - start) / SECONDS
    return share, counts[LevelChanged] / SECONDS / MARKETS, counts[TradePrinted] / SECONDS / MARKETS


def main() -> None:
    """Print both tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    actions = draw_actions(count)
    trader, house = requests_of(actions, "trader"), requests_of(actions, HOUSE)
    rows = [
        ("matching engine alone", *measure(lambda: run_engine(actions), count)),
        ("exchange, an account's orders", *measure(lambda: run_exchange(trader, "trader", None), count)),
        ("exchange, with a listener", *measure(lambda: run_exchange(trader, "trader", lambda _: None), count)),
        ("exchange, the house's orders", *measure(lambda: run_exchange(house, HOUSE, None), count)),
    ]
    if len({trades for _, _, trades in rows}) != 1:
        raise SystemExit(f"engine and exchange disagree about the trades: {rows}")
    lines = [f"{f'sandbox core, {count} actions':<36}{'actions/s':>12}{'trades':>9}{'x engine':>9}"]
    lines += [f"{name:<36}{rate:>12,.0f}{trades:>9}{rate / rows[0][1]:>9.2f}" for name, rate, trades in rows]
    lines += ["", f"{f'background of {MARKETS} markets':<36}{'% of a core':>12}{'changes/s':>11}{'trades/s':>10}"]
    for name, config in (
        ("as configured by default", MarketsConfig()),
        ("five times as busy", MarketsConfig(activity=5)),
    ):
        share, changes, trades_per_s = background(config)
        lines.append(f"{name:<36}{100 * share:>12.1f}{changes:>11.1f}{trades_per_s:>10.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
