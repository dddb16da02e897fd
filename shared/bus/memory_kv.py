"""Key-value buckets of the in-memory broker."""

from shared.bus import subjects
from shared.bus.memory_broker import Bucket
from shared.bus.memory_running import MemoryClient
from shared.bus.port import KeyValueEntry


class MemoryKeyValue:
    """Keep one bucket's values in memory."""

    def __init__(self, client: MemoryClient, bucket: Bucket) -> None:
        self._client = client
        self._bucket = bucket

    async def get(self, key: str) -> KeyValueEntry | None:
        """Return the entry, or None."""
        await self._client.reach()
        return self._bucket.get(subjects.bucket_key(key))

    async def put(self, key: str, value: bytes) -> int:
        """Store the value and return its revision."""
        await self._client.reach()
        return self._bucket.store(subjects.bucket_key(key), value)

    async def create(self, key: str, value: bytes) -> int | None:
        """Store the value if the key is absent."""
        return None if await self.get(key) is not None else self._bucket.store(key, value)

    async def update(self, key: str, value: bytes, *, revision: int) -> int | None:
        """Store the value if the key is still at `revision`."""
        entry = await self.get(key)
        return None if entry is None or entry.revision != revision else self._bucket.store(key, value)

    async def delete(self, key: str) -> None:
        """Remove the key."""
        await self._client.reach()
        self._bucket.delete(subjects.bucket_key(key))
