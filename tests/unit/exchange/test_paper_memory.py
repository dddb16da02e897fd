"""The paper venue's rules give the same answers over a file and over memory."""

from collections.abc import Awaitable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import cast

from shared.exchange.paper import PaperVenue
from shared.exchange.paper_book import PaperBook
from shared.exchange.paper_memory import MemoryRecords
from shared.exchange.port import SimulatedVenue
from shared.testing.paper import LIFE, MODEL

DEPOSIT: Mapping[str, Decimal] = {"USDT": Decimal(10_000), "BTC": Decimal(2)}


class Awaited:
    """Be a venue's port over a book that answers at once."""

    def __init__(self, book: PaperBook) -> None:
        self.book = book

    def __getattr__(self, name: str) -> object:
        method = getattr(self.book, name)

        async def call(*values: object, **named: object) -> object:
            return method(*values, **named)

        return call


async def test_memory_gives_every_answer_that_a_file_gives(tmp_path: Path) -> None:
    on_disk = PaperVenue(tmp_path / "paper.db", venue="paper", model=MODEL, initial_deposit=DEPOSIT)
    in_memory = PaperBook(MemoryRecords(), venue="paper", model=MODEL, initial_deposit=DEPOSIT)
    as_venue = cast(SimulatedVenue, Awaited(in_memory))
    trades = 0
    for number, step in enumerate(LIFE):
        expected = await cast(Awaitable[object], step(on_disk))
        assert await cast(Awaitable[object], step(as_venue)) == expected, number
        assert in_memory.balances() == await on_disk.balances(), number
        assert in_memory.trades_since(0) == await on_disk.trades_since(0), number
        assert in_memory.open_orders() == await on_disk.open_orders(), number
        trades = len(in_memory.trades_since(0))
    assert trades > 3
    on_disk.close()
