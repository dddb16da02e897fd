from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from shared.exchange.paper import PaperVenue
from shared.matching import FillModel
from shared.testing.paper import BTC, ETH, MODEL


@pytest.fixture
def open_venue(tmp_path: Path) -> Iterator[Callable[..., PaperVenue]]:
    opened: list[PaperVenue] = []

    def open_one(fault_point: Callable[[str], None] = lambda point: None, model: FillModel = MODEL) -> PaperVenue:
        venue = PaperVenue(
            tmp_path / "paper.db",
            venue="paper",
            model=model,
            initial_deposit={"USDT": Decimal(10_000), "BTC": Decimal(2)},
            fault_point=fault_point,
        )
        opened.append(venue)
        return venue

    yield open_one
    for venue in opened:
        venue.close()


@pytest.fixture
async def venue(open_venue: Callable[..., PaperVenue]) -> PaperVenue:
    opened = open_venue()
    await opened.define_instrument(BTC)
    await opened.define_instrument(ETH)
    return opened
