"""Listen to the own stack: keep the picture current and notice when a market has ended.

In: messages from the bus. Out: the picture, one call when everybody has finished the final step, and the summary then.
Never: a command, a summary before the last step is finished.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.cli.gather import gather_run
from services.cli.picture import Picture, fold, is_finished
from services.cli.runfile import USER
from services.cli.summary import Summary, summarise
from shared.bus import streams, subjects
from shared.bus.port import Bus, Delivery
from shared.bus.visit import connected
from shared.config import StackConfig
from shared.errors import UnavailableError

LIVE = ("md.closed.>", "md.status.>", "acct.>", "decision.>", "ord.event.>", "ord.refused.>", "progress.*")
CHECK_EVERY_S = 0.5
RETRY_S = 1.0


class Watch:
    """Watch one stack; `picture` is the newest, `summary` is there once the market has ended."""

    def __init__(
        self, stack: StackConfig, participants: tuple[str, ...], *, on_finished: Callable[[Summary], None]
    ) -> None:
        self.picture = Picture()
        self._stack, self._participants, self._on_finished = stack, participants, on_finished

    async def run(self, url: str, keys_dir: Path) -> None:
        """Watch until the market has ended or the caller cancels; a lost connection is made again."""
        while True:
            try:
                async with connected(url, USER, keys_dir) as bus:
                    await self._listen(bus)
                    while not is_finished(self.picture, self._participants):
                        await self._hear_last(bus, streams.MD_BARS, self._closed_subject)
                        await asyncio.sleep(CHECK_EVERY_S)
                    self._on_finished(summarise(await gather_run(bus, self._stack)))
                    return
            except UnavailableError:
                await asyncio.sleep(RETRY_S)

    @property
    def _closed_subject(self) -> str:
        return subjects.bars_closed(self._stack.timeframe, self._stack.venue)

    async def _listen(self, bus: Bus) -> None:
        for subject in (*LIVE, subjects.RISK_STATE):
            await bus.subscribe(subject, self._hear)
        await self._hear_last(bus, streams.RISK, subjects.RISK_STATE)
        await self._hear_last(bus, streams.ACCOUNTS, subjects.account(self._stack.venue))

    async def _hear_last(self, bus: Bus, stream: str, subject: str) -> None:
        last = await bus.last(stream, subject)
        if last is not None:
            await self._hear(last)

    async def _hear(self, delivery: Delivery) -> None:
        self.picture = fold(self.picture, delivery.message)
