"""Consume a durable in a process of its own, to be killed: writes each handled number to a file, then acknowledges.

python consumer_process.py URL FILE
"""

import asyncio
import os
import sys

from shared.bus.nats import NatsBus
from shared.bus.port import Delivery
from shared.messages import Progress


async def main(url: str, path: str) -> None:
    ended = asyncio.Event()
    bus = NatsBus(url, service="worker", on_fatal=lambda error: ended.set())
    await bus.connect()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def handle(delivery: Delivery) -> None:
        assert isinstance(delivery.message, Progress)
        os.write(descriptor, f"{delivery.message.close_time_ns}\n".encode())
        await asyncio.sleep(0)

    await bus.consume("ORDERS", "worker", handle)
    await ended.wait()


asyncio.run(main(*sys.argv[1:]))
