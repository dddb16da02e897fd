from collections.abc import AsyncIterator

import pytest

from tests.unit.sandbox_exchange.mexc.rig import Rig, running_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with running_rig() as venue:
        yield venue
