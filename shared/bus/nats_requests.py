"""Questions to the server that may be repeated until they are answered: the JetStream API, stores, lookups."""

import asyncio

from nats.aio.msg import Msg

from shared.bus import nats_api as api
from shared.bus.nats_connection import NatsConnection, PermissionDeniedError
from shared.errors import BusUnavailableError

TRY_S = 2.0
RETRY_PAUSE_S = 0.05


async def ask_until(
    connection: NatsConnection,
    subject: str,
    payload: bytes,
    *,
    timeout_s: float,
    headers: dict[str, str] | None = None,
) -> Msg:
    """Ask again and again, over reconnections, until an answer comes or `timeout_s` is over.

    Only for questions whose repetition is harmless. Raises BusUnavailableError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        await connection.reach(max(0.0, deadline - loop.time()))
        try:
            left_s = max(RETRY_PAUSE_S, min(TRY_S, deadline - loop.time()))
            return await connection.request(subject, payload, timeout_s=left_s, headers=headers)
        except PermissionDeniedError:
            raise
        except BusUnavailableError:
            if loop.time() + RETRY_PAUSE_S >= deadline:
                raise
        await asyncio.sleep(RETRY_PAUSE_S)


async def call[T](connection: NatsConnection, kind: type[T], subject: str, payload: bytes, *, timeout_s: float) -> T:
    """Return the JSON answer to a repeatable question as a Struct; raises BusUnavailableError."""
    return api.parse(kind, (await ask_until(connection, subject, payload, timeout_s=timeout_s)).data)


async def store(
    connection: NatsConnection, subject: str, payload: bytes, *, headers: dict[str, str], timeout_s: float
) -> api.StoredAnswer:
    """Store one frame; the headers carry an id that makes repetitions harmless. Raises BusUnavailableError.

    Errors other than "unavailable" come back in the answer, since some callers expect them.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        left_s = max(0.0, deadline - loop.time())
        message = await ask_until(connection, subject, payload, timeout_s=left_s, headers=headers)
        answer = api.parse(api.StoredAnswer, message.data)
        if answer.error is None or answer.error.code != api.CODE_UNAVAILABLE:
            return answer
        if loop.time() + RETRY_PAUSE_S >= deadline:
            raise BusUnavailableError(f"{subject} was not stored: {answer.error.description}")
        await asyncio.sleep(RETRY_PAUSE_S)
