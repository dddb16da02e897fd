"""Who else lives, and which schema each speaks, as their heartbeats say.

In: `hb.*`. Out: who was heard a moment ago and speaks another schema than this process. Never: a service that has
gone taken for one that lives.
"""

import asyncio

from shared.clock import NANOSECONDS_PER_SECOND, monotonic_ns
from shared.messages import Heartbeat, schema_hash

# Heartbeats come each second. Who was not heard for so long has gone.
GONE_AFTER_S = 5.0
# Whoever lives was heard after this, with some patience.
HEARD_AFTER_S = 2.5


class Peers:
    """Follow the other services."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], tuple[int, str]] = {}
        self._since_ns = monotonic_ns()

    def on_heartbeat(self, beat: Heartbeat) -> None:
        """Take a heartbeat."""
        self._heard[beat.service, beat.instance] = (monotonic_ns(), beat.schema_hash)

    async def until_heard(self) -> None:
        """Wait until everybody who lives had the time to be heard."""
        listened_s = (monotonic_ns() - self._since_ns) / NANOSECONDS_PER_SECOND
        if listened_s < HEARD_AFTER_S:
            await asyncio.sleep(HEARD_AFTER_S - listened_s)

    def strangers(self) -> str:
        """Return who lives and speaks another schema, with it (`rebalancer 12ab`, …); empty when nobody does."""
        since_ns = monotonic_ns() - int(GONE_AFTER_S * NANOSECONDS_PER_SECOND)
        self._heard = {who: heard for who, heard in self._heard.items() if heard[0] >= since_ns}
        own = schema_hash()
        return ", ".join(sorted(f"{who[0]} {spoken}" for who, (_, spoken) in self._heard.items() if spoken != own))
