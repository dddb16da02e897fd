"""Where the gate stands and what it is given: the part of the lifecycle that it uses, and the facts of its stack."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import msgspec

from shared.bus.port import Bus
from shared.clock import Clock
from shared.logs import Log
from shared.metrics import Metrics


class Setting(msgspec.Struct, frozen=True):
    """Say where the gate stands. `is_market_time`: time is the bars' time and nothing else is looked at (a replay).

    `is_real_money`: what is approved here is paid for; then all services must speak one schema.
    """

    venue: str
    timeframe: str
    assets: tuple[str, ...]
    is_market_time: bool
    start_active: bool
    is_real_money: bool = False


class Surroundings(Protocol):
    """Be what the lifecycle gives a service."""

    bus: Bus
    clock: Clock
    metrics: Metrics
    log: Log

    def advance_clock(self, to_ns: int) -> None:
        """Move market time on."""
        ...

    def report_progress(self, close_time_ns: int) -> None:
        """Say that everything up to a market time is finished."""
        ...

    def spawn(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        """Run something beside the service."""
        ...
