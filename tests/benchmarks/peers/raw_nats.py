"""A baseline of the pipeline: four durable publishes in a row over raw nats-py, each after the one before arrived."""

import asyncio
import os
import time
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

TIMEOUT_S = 10.0


async def chain(url: str, file: Path, *, rounds: int, pause_s: float) -> tuple[list[int], list[int]]:
    """Return the nanoseconds of each round: until the last delivery, and with one synced write of `file`."""
    clients = [Client() for _ in range(4)]
    for one in clients:
        await one.connect(url)
    publishers = [one.jetstream() for one in clients]
    names = ("closed", "state", "intent", "approval")
    for name in names:
        await publishers[0].add_stream(StreamConfig(name=name, subjects=[f"raw.{name}"]))
    payload, arrived = b"x" * 300, asyncio.Event()
    journal = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    ends: list[int] = []

    async def send(position: int, *names: str) -> None:
        for name in names:
            headers = {"Nats-Msg-Id": f"{name}-{len(ends)}"}
            await publishers[position].publish(f"raw.{name}", payload, headers=headers)

    async def decide(message: Msg) -> None:
        await send(1, "state", "intent")
        await message.ack()

    async def judge(message: Msg) -> None:
        await send(2, "approval")
        await message.ack()

    async def execute(message: Msg) -> None:
        ends.append(time.monotonic_ns())
        os.write(journal, payload)
        os.fsync(journal)
        ends.append(time.monotonic_ns())
        await message.ack()
        arrived.set()

    for position, (name, handler) in enumerate((("closed", decide), ("intent", judge), ("approval", execute)), 1):
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT)
        await publishers[position].subscribe(f"raw.{name}", durable=name, cb=handler, manual_ack=True, config=config)
    await asyncio.sleep(0.05)
    broker, synced = [], []
    for _ in range(rounds):
        arrived.clear()
        begun_ns = time.monotonic_ns()
        await send(0, "closed")
        async with asyncio.timeout(TIMEOUT_S):
            await arrived.wait()
        broker.append(ends[-2] - begun_ns)
        synced.append(ends[-1] - begun_ns)
        await asyncio.sleep(pause_s)  # caches and cores cool down, as they do between two market steps
    for one in clients:
        await one.close()
    return broker, synced
