"""What a venue keeps of the past: the newest, whole orders, and a ledger that still adds up."""

from decimal import Decimal

import msgspec
import pytest

from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.history import HISTORY_MAX
from services.sandbox_exchange.core.ledger import Ledger
from services.sandbox_exchange.core.model import Account, Refusal
from services.sandbox_exchange.core.state import State, encode_state
from tests.unit.sandbox_exchange.core.rows import Mirror
from tests.unit.sandbox_exchange.core.venue import BUY, MARKET, SELL, SYMBOL, Bench, d


def bench_that_keeps(most: int) -> Bench:
    bench = Bench()
    bench.exchange = SandboxExchange(history_max=most)
    bench.exchange.list_market(MARKET)
    for name in ("ann", "bob"):
        bench.exchange.open_account(Account(name, f"key-{name}", "s"), {"USDT": d(10_000), "BTC": d(100)}, 0)
    bench.exchange.take_changes()
    return bench


def ledger_of(bench: Bench) -> Ledger:
    return msgspec.json.decode(bench.exchange.ledger(), type=Ledger)


def fill(bench: Bench, number: int) -> int:
    bench.offer(SELL, "100", "1")
    return bench.place("ann", BUY, price="100", quantity="1", client_id=f"c{number}")[0].order_id


def test_nothing_of_a_usual_account_is_forgotten() -> None:
    bench = bench_that_keeps(HISTORY_MAX)
    for number in range(50):
        fill(bench, number)
    ledger = ledger_of(bench)
    assert (len(ledger.orders), len(ledger.executions), ledger.forgotten) == (50, 50, {})


def test_the_oldest_orders_go_with_their_executions_and_the_sums_stay() -> None:
    bench = bench_that_keeps(10)
    ids = [fill(bench, number) for number in range(20)]
    ledger = ledger_of(bench)
    assert [one.order_id for one in ledger.orders] == ids[-5:]
    assert [one.order_id for one in ledger.executions] == ids[-5:]
    gone = ledger.forgotten["ann"]
    assert (gone.orders, gone.executions) == (15, 15)
    # 15 BTC for 1500 USDT, 0.2 % of what was bought taken as a fee.
    assert gone.amounts == {"BTC": Decimal("14.970"), "USDT": Decimal(-1500)}
    assert all(not one.difference for one in ledger.totals.values())
    with pytest.raises(Refusal):
        bench.exchange.order("ann", SYMBOL, order_id=ids[0])
    with pytest.raises(Refusal):
        bench.exchange.order("ann", SYMBOL, client_order_id="c0")


def test_an_open_order_and_its_executions_are_never_forgotten() -> None:
    bench = bench_that_keeps(10)
    bench.offer(SELL, "100", "1")
    old = bench.place("ann", BUY, price="100", quantity="3", client_id="old")[0]
    for number in range(30):
        bench.place("ann", BUY, price="90", quantity="1", client_id=f"c{number}")
        bench.exchange.cancel("ann", SYMBOL, bench.now_ns, client_order_id=f"c{number}")
    kept = bench.exchange.order("ann", SYMBOL, client_order_id="old")
    assert (kept.order_id, kept.executed_quantity) == (old.order_id, 1)
    assert [one.order_id for one in bench.exchange.account_trades("ann")] == [old.order_id]
    bench.place("bob", SELL, price="100", quantity="2")
    # It ended last, so it is the newest, however long ago it was placed.
    assert bench.exchange.order("ann", SYMBOL, client_order_id="old").executed_quantity == 3
    assert len(bench.exchange.account_trades("ann", SYMBOL)) == 2


def test_an_older_order_under_the_same_client_id_is_found_again() -> None:
    bench = bench_that_keeps(4)
    old = bench.place("ann", BUY, price="90", quantity="1", client_id="x")[0]
    newer = bench.place("ann", BUY, price="91", quantity="1", client_id="x", accept_duplicate_id=True)[0]
    bench.exchange.cancel("ann", SYMBOL, bench.now_ns, order_id=newer.order_id)
    assert bench.exchange.order("ann", SYMBOL, client_order_id="x").order_id == newer.order_id
    for number in range(5):
        bench.place("ann", BUY, price="92", quantity="1", client_id=f"c{number}")
        bench.exchange.cancel("ann", SYMBOL, bench.now_ns, client_order_id=f"c{number}")
    assert bench.exchange.order("ann", SYMBOL, client_order_id="x").order_id == old.order_id


def test_one_order_with_more_executions_than_are_kept_stays_whole() -> None:
    bench = bench_that_keeps(5)
    for _ in range(8):
        bench.offer(SELL, "100", "1")
    order = bench.place("ann", BUY, price="100", quantity="8")[0]
    assert len(bench.exchange.account_trades("ann")) == 8
    assert bench.exchange.order("ann", SYMBOL, order_id=order.order_id).executed_quantity == 8


def test_a_state_without_ends_is_forgotten_by_time() -> None:
    bench = bench_that_keeps(HISTORY_MAX)
    ids = [fill(bench, number) for number in range(6)]
    state = msgspec.msgpack.decode(bench.exchange.dump(), type=State)
    for order in state.orders:
        order.ended = 0  # as versions wrote it that forgot nothing
    bench = bench_that_keeps(4)
    bench.exchange.restore(encode_state(state))
    assert [one.order_id for one in bench.exchange.orders("ann", SYMBOL)] == ids[-2:]
    last = fill(bench, 7)
    assert [one.order_id for one in bench.exchange.orders("ann", SYMBOL)] == [ids[-1], last]


def test_rows_of_forgotten_candles_and_trades_go() -> None:
    bench = Bench()
    bench.exchange = SandboxExchange(trades_kept=3)
    bench.exchange.list_market(MARKET)
    bench.exchange.open_account(Account("ann", "key", "s"), {"USDT": d(10_000)}, 0)
    candles = bench.exchange._books[SYMBOL].candles
    for series in candles.series:
        series.kept = 3
    mirror = Mirror()
    for number in range(12):
        fill(bench, number)
        bench.now_ns += 45_000_000_000
        if number % 3 == 0:
            mirror.follow(bench.exchange.take_changes())
            assert mirror.dump() == bench.exchange.dump()
    assert sum(section == "trade" for section, _, _ in mirror.rows) == 3
    assert max(len(series.candles) for series in candles.series) == 3
