"""Key-value buckets in JetStream's own layout, so that the usual tools can read them.

In: keys, values, expected revisions. Out: entries; None where another writer was first. A retry after a lost answer
repeats the same message id, so an update of ours that did happen is not mistaken for somebody else's.
"""

import secrets

from nats.aio.msg import Msg

from shared.bus import nats_api as api
from shared.bus.nats_connection import NatsConnection
from shared.bus.nats_requests import ask_until, store
from shared.bus.port import KeyValueEntry
from shared.bus.subjects import bucket_key, token
from shared.errors import BusUnavailableError

TIMEOUT_S = 5.0


class NatsKeyValue:
    """Keep one bucket's values in JetStream."""

    def __init__(self, connection: NatsConnection, bucket: str) -> None:
        self._connection = connection
        self._bucket = token(bucket)

    async def get(self, key: str) -> KeyValueEntry | None:
        """Return the entry, or None when the key was never put or was deleted."""
        found = await self._read(key)
        if found is None or (found.headers or {}).get(api.HEADER_OPERATION):
            return None
        return KeyValueEntry(value=found.data, revision=_revision(found))

    async def put(self, key: str, value: bytes) -> int:
        """Store the value and return its revision."""
        return _stored(await self._write(key, value, {}))

    async def create(self, key: str, value: bytes) -> int | None:
        """Store the value if the key is absent; None when somebody else holds it."""
        revision = await self.update(key, value, revision=0)
        if revision is not None:
            return revision
        found = await self._read(key)
        if found is None or not (found.headers or {}).get(api.HEADER_OPERATION):
            return None
        return await self.update(key, value, revision=_revision(found))

    async def update(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Store the value if the key is still at `revision`; None when it is not."""
        answer = await self._write(key, value, {api.HEADER_EXPECTED: str(revision)})
        if answer.error is not None and answer.error.err_code == api.ERROR_WRONG_LAST_SEQUENCE:
            return None
        return _stored(answer)

    async def delete(self, key: str) -> None:
        """Remove the key."""
        _stored(await self._write(key, b"", {api.HEADER_OPERATION: "DEL"}))

    async def _read(self, key: str) -> Msg | None:
        subject = f"{api.API}.DIRECT.GET.KV_{self._bucket}.$KV.{self._bucket}.{bucket_key(key)}"
        found = await ask_until(self._connection, subject, b"", timeout_s=TIMEOUT_S)
        status = (found.headers or {}).get(api.HEADER_STATUS)
        if status == api.STATUS_NOT_FOUND:
            return None
        if status is not None:
            raise BusUnavailableError(f"bucket {self._bucket} answers with status {status}")
        return found

    async def _write(self, key: str, value: bytes, headers: dict[str, str]) -> api.StoredAnswer:
        subject = f"$KV.{self._bucket}.{bucket_key(key)}"
        headers = {api.HEADER_ID: secrets.token_hex(12), **headers}
        return await store(self._connection, subject, value, headers=headers, timeout_s=TIMEOUT_S)


def _revision(found: Msg) -> int:
    return int((found.headers or {})[api.HEADER_SEQUENCE])


def _stored(answer: api.StoredAnswer) -> int:
    if answer.error is not None:
        raise BusUnavailableError(f"the value was not stored: {answer.error.description}")
    return answer.seq
