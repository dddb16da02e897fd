"""A live market for tests."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.market_data.live_rig import Live


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    one = Live()
    await one.open()
    yield one
    await one.kill()
    assert one.failed == []
