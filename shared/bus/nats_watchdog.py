"""Prove that a connection still hears: send a beat to an own inbox, and miss it when it does not come back.

In: a way to send, and what comes back. Out: a report after several misses in a row. It counts beats, not seconds,
so a machine that slept is not taken for a deaf client; time without a connection does not count either.
"""

import asyncio
from collections.abc import Callable

from nats.aio.msg import Msg

INTERVAL_S = 1.0
MISSED_MAX = 5


class Watchdog:
    """Beat every `interval_s`; `run` returns when `MISSED_MAX` beats in a row were not heard."""

    def __init__(
        self, is_connected: Callable[[], bool], send: Callable[[bytes], object], interval_s: float = INTERVAL_S
    ) -> None:
        self.sent = 0
        self.heard = 0
        self.interval_s = interval_s
        self._is_connected = is_connected
        self._send = send

    async def hear(self, message: Msg) -> None:
        """Take a beat that came back."""
        self.heard = max(self.heard, int(message.data))

    async def run(self) -> None:
        """Watch until the client is deaf."""
        missed = 0
        while missed < MISSED_MAX:
            if self._is_connected():
                if missed == 0:
                    self.sent += 1
                self._send(str(self.sent).encode())
            await asyncio.sleep(self.interval_s)
            missed = missed + 1 if self._is_connected() and self.heard < self.sent else 0
