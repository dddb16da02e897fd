"""A small store to write, break and read."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from shared.messages import Heartbeat
from shared.store.disk import Disk
from shared.store.options import ParquetOptions
from shared.store.parquet import ParquetStore
from shared.store.port import Batch, Row
from shared.testing.samples import heartbeat

# Later than any file that a test writes: what waits for a while has waited.
NOW_NS = 3_000_000_000_000_000_000
DAY = "1970-01-01"
TABLE = "heartbeats"


class Workshop:
    """Write numbered heartbeats into a store under `root` and say which of them it shows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_ns = NOW_NS

    def store(self, disk: Disk | None = None, **options: object) -> ParquetStore:
        chosen = ParquetOptions(**{"merge_files_min": 3, "reader_grace_s": 0.0, "quiet_after_s": 1e10} | options)
        return ParquetStore(self.root, lambda: self.now_ns, chosen, disk)

    def batch(self, numbers: Iterable[int]) -> Batch:
        return Batch(TABLE, DAY, [self.row(number) for number in numbers])

    def row(self, number: int) -> Row:
        return Row(heartbeat(f"service-{number}", number + 1), "hb.x", NOW_NS)

    def numbers(self, messages: Iterable[object]) -> list[int]:
        return [message.sent_at_ns - 1 for message in messages if isinstance(message, Heartbeat)]

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.root / TABLE / f"date={DAY}").glob("*"))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "store")
