"""Orders per second through the matching engine, against a naive sorted-list book on the same orders.

Run: python -m tests.benchmarks.matching [orders]. Also shows what the Decimal border costs: the same book and loop
with integers alone, and with Decimals inside. Orders are drawn before the clock starts; each row is the best of three.
"""

import random
import sys
import time
from collections.abc import Callable
from decimal import Decimal

from shared.matching import FeeSchedule, MatchingEngine, NewOrder, SelfTradePrevention
from shared.matching.book import Book, RestingOrder, Taker
from shared.messages import Instrument, Side, TimeInForce
from shared.testing.naive_matching import NaiveEngine

TICK, STEP = Decimal("0.01"), Decimal("0.001")
MARKET = Instrument("BTC-USDT", "BTC", "USDT", TICK, STEP, Decimal(0), Decimal(0))
FEES = FeeSchedule(Decimal("0.0002"), Decimal("0.001"))
NAIVE_ORDERS_MAX = 5_000
Action = NewOrder | str


def draw_actions(count: int, seed: int = 7) -> list[Action]:
    """Return a mix of 55 % limit, 10 % IOC, 5 % market and 30 % cancels around a price that wanders."""
    source = random.Random(seed)
    middle, live, actions = 1_000_000, [], []
    for number in range(count):
        middle += source.choice((-3, -1, 0, 0, 1, 3))
        kind = source.random()
        if kind < 0.30 and live:
            place = source.randrange(len(live))
            live[place], live[-1] = live[-1], live[place]
            actions.append(live.pop())
            continue
        side = Side.BUY if source.random() < 0.5 else Side.SELL
        quantity = source.randint(1, 500) * STEP
        away = int(source.expovariate(1 / 40)) - 8
        price = (middle - away if side is Side.BUY else middle + away) * TICK
        order_id = f"o{number}"
        if kind < 0.35:
            actions.append(NewOrder(order_id, "owner", side, quantity=quantity))
            continue
        force = TimeInForce.IOC if kind < 0.45 else TimeInForce.GTC
        actions.append(NewOrder(order_id, "owner", side, quantity=quantity, limit_price=price, time_in_force=force))
        if force is TimeInForce.GTC:
            live.append(order_id)
    return actions


def run_engine(actions: list[Action], fees: FeeSchedule) -> int:
    """Return the number of trades that the engine made."""
    engine = MatchingEngine(MARKET, fees)
    submit, cancel, trades = engine.submit, engine.cancel, 0
    for action in actions:
        if action.__class__ is str:
            cancel(action)
        else:
            trades += len(submit(action).executions)
    return trades


def run_naive(actions: list[Action]) -> int:
    """Return the number of trades that the naive engine made."""
    engine, trades = NaiveEngine(STEP), 0
    for action in actions:
        if isinstance(action, str):
            engine.cancel(action)
        else:
            trades += len(engine.submit(action).trades)
    return trades


def run_book(actions: list[Action], to_number: Callable[[Decimal, Decimal], int]) -> int:
    """Return the number of trades that the bare book made, with numbers converted before the clock starts."""
    book, trades = Book(), 0
    for action in actions:
        if isinstance(action, str):
            book.cancel(action)
            continue
        taker, rests = _taker(action, to_number)
        matches, _ = book.match(taker)
        trades += len(matches)
        if rests and taker.remaining:
            book.rest(RestingOrder(taker.order_id, taker.owner, taker.is_buy, taker.limit, taker.remaining))
    return trades


_numbers: dict[tuple[int, Callable[[Decimal, Decimal], int]], tuple[int | None, int]] = {}


def _taker(order: NewOrder, to_number: Callable[[Decimal, Decimal], int]) -> tuple[Taker, bool]:
    limit, lots = _numbers[id(order), to_number]
    taker = Taker(order.order_id, order.owner, order.side is Side.BUY, limit, lots, None, SelfTradePrevention.NONE)
    return taker, limit is not None and order.time_in_force is TimeInForce.GTC


def _convert(actions: list[Action], to_number: Callable[[Decimal, Decimal], int]) -> None:
    for action in actions:
        if not isinstance(action, str) and action.quantity is not None:
            limit = None if action.limit_price is None else to_number(action.limit_price, TICK)
            _numbers[id(action), to_number] = (limit, to_number(action.quantity, STEP))


def _as_integer(value: Decimal, unit: Decimal) -> int:
    return int(value // unit)


def _as_decimal(value: Decimal, unit: Decimal) -> Decimal:
    return value


def measure(run: Callable[[], int], count: int) -> tuple[float, int]:
    """Return the best of three rates (orders/s) and the number of trades."""
    best, trades = float("inf"), 0
    for _ in range(3):
        start = time.perf_counter()
        trades = run()
        best = min(best, time.perf_counter() - start)
    return count / best, trades


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    actions = draw_actions(count)
    few = actions[:NAIVE_ORDERS_MAX]
    _convert(actions, _as_integer)
    _convert(actions, _as_decimal)
    naive = measure(lambda: run_naive(few), len(few))
    short = measure(lambda: run_engine(few, FeeSchedule()), len(few))
    if naive[1] != short[1]:
        raise SystemExit(f"the engines disagree: {naive[1]} trades against {short[1]}")
    rows = [
        (f"naive sorted list, first {len(few)}", *naive),
        (f"engine, first {len(few)}", *short),
        (f"engine, {count} actions", *measure(lambda: run_engine(actions, FeeSchedule()), count)),
        (f"engine with fee rates, {count}", *measure(lambda: run_engine(actions, FEES), count)),
        (f"book alone on integers, {count}", *measure(lambda: run_book(actions, _as_integer), count)),
        (f"book alone on Decimals, {count}", *measure(lambda: run_book(actions, _as_decimal), count)),
    ]
    lines = [f"{'matching':<36}{'actions/s':>12}{'trades':>9}{'x naive':>9}"]
    lines += [f"{name:<36}{rate:>12,.0f}{trades:>9}{rate / naive[0]:>9.1f}" for name, rate, trades in rows]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
