"""The paper venue after failures and kills at every point of a change: nothing lost, nothing twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import ConfigError, StoreUnavailableError
from shared.exchange.paper import PaperVenue
from shared.messages import Side
from shared.testing.paper import BTC, HOUR_NS, LIFE, MODEL, bar, bbo, closed, limit, market

BUY = Side.BUY


async def everything(venue: PaperVenue) -> tuple[object, ...]:
    orders = [
        await venue.query(name, f"{asset}-USDT") for asset in ("BTC", "ETH") for name in ("m1", "m2", "l1", "l2", "l3")
    ]
    times = (venue.market_time_ns("BTC-USDT"), venue.market_time_ns("ETH-USDT"))
    return await venue.balances(), await venue.trades_since(0), orders, await venue.open_orders(), times


async def run(venue: PaperVenue, first: int = 0, last: int = len(LIFE)) -> None:
    for step in LIFE[first:last]:
        await step(venue)


async def test_repeating_every_step_changes_nothing(open_venue: Callable[..., PaperVenue], tmp_path: Path) -> None:
    venue = open_venue()
    for step in LIFE:
        await step(venue)
        once = await everything(venue)
        await step(venue)
        assert await everything(venue) == once


async def test_repeating_everything_up_to_now_changes_nothing(open_venue: Callable[..., PaperVenue]) -> None:
    venue = open_venue()
    await run(venue)
    once = await everything(venue)
    reopened = open_venue()
    assert await everything(reopened) == once
    await run(reopened)
    assert await everything(reopened) == once


class FaultError(Exception):
    pass


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_failure_at_each_change_then_reopening_and_repeating_gives_the_same_state(
    point: str, tmp_path: Path
) -> None:
    calm = PaperVenue(
        tmp_path / "calm.db", venue="paper", model=MODEL, initial_deposit={"USDT": BTC.notional_min * 2000}
    )
    await run(calm)
    expected = await everything(calm)
    calm.close()
    armed = False

    def fail(name: str) -> None:
        nonlocal armed
        if armed and name == point:
            armed = False
            raise FaultError

    def open_one() -> PaperVenue:
        return PaperVenue(
            tmp_path / "faulty.db",
            venue="paper",
            model=MODEL,
            initial_deposit={"USDT": BTC.notional_min * 2000},
            fault_point=fail,
        )

    venue, failures = open_one(), 0
    for step in LIFE:
        before = await everything(venue)
        armed = True
        try:
            await step(venue)
        except FaultError:
            failures += 1
            if point == "before_commit":
                assert await everything(venue) == before
            # The old connection is abandoned, not closed, as a killed process leaves it.
            abandoned, venue = venue, open_one()
            await step(venue)
            abandoned.close()
        armed = False
    result = await everything(venue)
    venue.close()
    assert failures >= 15
    assert result == expected


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from shared.exchange.paper import PaperVenue
from shared.testing.paper import BTC, LIFE, MODEL

path, point, countdown, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def die(name):
    global countdown
    if name == point:
        countdown -= 1
        if countdown == 0:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    deposit = {"USDT": BTC.notional_min * 2000}
    venue = PaperVenue(path, venue="paper", model=MODEL, initial_deposit=deposit, fault_point=die)
    for number, step in enumerate(LIFE):
        if number >= first:
            await step(venue)
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("point", "change"), [("before_commit", 7), ("after_commit", 11), ("after_commit", 14)])
async def test_killed_process_loses_nothing_that_it_acknowledged(point: str, change: int, tmp_path: Path) -> None:
    calm = PaperVenue(
        tmp_path / "calm.db", venue="paper", model=MODEL, initial_deposit={"USDT": BTC.notional_min * 2000}
    )
    await run(calm)
    expected = await everything(calm)
    calm.close()
    path = tmp_path / "killed.db"

    def child(countdown: int, first: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", CHILD, str(path), point, str(countdown), str(first)]
        return subprocess.run(
            arguments, capture_output=True, text=True, timeout=25, check=False, env={**os.environ, "PYTHONPATH": "."}
        )

    killed = child(change, 0)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = len(killed.stdout.split())
    finished = child(0, done)
    assert finished.returncode == 0, finished.stderr
    venue = PaperVenue(path, venue="paper", model=MODEL)
    result = await everything(venue)
    venue.close()
    assert result == expected


async def test_books_that_are_not_durable_still_fill_once_and_leave_the_bar_after_a_restart(tmp_path: Path) -> None:
    def open_one() -> PaperVenue:
        deposit = {"USDT": BTC.notional_min * 2000}
        return PaperVenue(tmp_path / "p.db", venue="paper", model=MODEL, initial_deposit=deposit, durable_books=False)

    venue = open_one()
    await run(venue, 0, 12)
    await venue.on_bbo(bbo(2 * HOUR_NS + 5, (91.0, 3.0), (91.5, 0.5)))
    order = await venue.submit(market("m2", BUY, quantity="0.25"))
    assert order.fills[0].price == Decimal("91.5")
    await venue.on_bbo(bbo(2 * HOUR_NS + 6, (93.0, 3.0), (94.0, 0.5)))
    venue.close()
    venue = open_one()
    assert venue.market_time_ns("BTC-USDT") == 2 * HOUR_NS + 5, "the last book was not written, the one with fills was"
    await venue.on_bbo(bbo(2 * HOUR_NS + 5, (91.0, 3.0), (91.5, 0.5)))
    again = await venue.submit(market("m3", BUY, quantity="0.5"))
    assert again.filled_quantity == Decimal("0.25"), "what m2 took of the book is gone"
    venue.close()


async def test_locked_file_is_unavailable_and_nothing_is_written(
    open_venue: Callable[..., PaperVenue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.exchange.paper_store.BUSY_TIMEOUT_S", 0.0)
    venue, other = open_venue(), open_venue()
    await run(venue, 0, 6)
    before = await everything(venue)
    with other._store.transaction(), pytest.raises(StoreUnavailableError):
        await venue.submit(market("m1", BUY, quote="1000"))
    assert await everything(venue) == before


def test_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "paper.db"
    path.write_text("this is no database, it is a letter to somebody, and long enough for a header" * 20)
    with pytest.raises(ConfigError, match=r"paper\.db cannot be used"):
        PaperVenue(path, venue="paper", model=MODEL)


async def test_only_a_bar_that_can_fill_nothing_is_not_synced_at_once(tmp_path: Path) -> None:
    levels: list[int] = []

    def note(point: str) -> None:
        if point == "before_commit" and opened:
            levels.append(opened[0]._store._db.execute("PRAGMA synchronous").fetchone()[0])

    opened: list[PaperVenue] = []
    deposit = {"USDT": Decimal(10_000)}
    venue = PaperVenue(tmp_path / "p.db", venue="paper", model=MODEL, initial_deposit=deposit, fault_point=note)
    await venue.define_instrument(BTC)
    opened.append(venue)
    await venue.on_bar(bar(1, 100.0))
    await venue.on_bars_closed(closed(1, "BTC-USDT"))
    await venue.on_bar(bar(2, 100.0))
    await venue.submit(limit("l1", BUY, "1", "90"))
    await venue.on_bar(bar(3, 95.0))
    normal, full = 1, 2
    assert levels == [normal, full, normal, full, full]
    venue.close()
