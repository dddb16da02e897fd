"""A live and a replayed market for tests."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.market_data.live_rig import Live
from tests.unit.market_data.replay_rig import World


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    one = Live()
    await one.open()
    yield one
    await one.kill()
    assert one.failed == []


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.end()
