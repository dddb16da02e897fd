"""The recorder's settings."""

import msgspec

from shared.store.options import ParquetOptions
from shared.store.questdb.options import WriterOptions, check_url
from shared.store.tables import TableClass

MEBIBYTE = 1024 * 1024


class RecorderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Configure how long rows wait, how many at most, when files are merged, how long they stay.

    `flush_interval_s` bounds the age of a row that is not on disk: what kill -9 can lose of ticks and heartbeats.
    `rows_max` rows are written at once before that. `pending_max` bounds, for each stream, what is not acknowledged,
    and all that came without a stream; `bytes_max` bounds the memory of each. `retention_days_*` 0 keeps for good.
    With a `questdb_url` (`http://host:port`) everything also goes to that QuestDB, through a spool on disk.
    """

    flush_interval_s: float = 2.0
    rows_max: int = 50_000
    pending_max: int = 200_000
    bytes_max: int = 128 * MEBIBYTE
    merge_files_min: int = 16
    merge_bytes_max: int = 16 * MEBIBYTE
    retention_days_ticks: int = 30
    retention_days_bars: int = 0
    retention_days_trading: int = 0
    retention_days_system: int = 7
    questdb_url: str = ""
    questdb_user: str = "cascade"
    questdb_password_file: str = ""
    questdb_spool_bytes_ticks: int = 2048 * MEBIBYTE
    questdb_spool_bytes_records: int = 1024 * MEBIBYTE

    def __post_init__(self) -> None:
        if not 0.05 <= self.flush_interval_s <= 60:
            raise ValueError(f"flush_interval_s must lie between 0.05 and 60 seconds, got {self.flush_interval_s}")
        if not 1 <= self.rows_max <= 1_000_000:
            raise ValueError(f"rows_max must lie between 1 and 1000000, got {self.rows_max}")
        if not 2 * self.rows_max <= self.pending_max <= 10_000_000:
            raise ValueError(
                f"pending_max must be at least twice rows_max ({2 * self.rows_max}), so that rows can come in while "
                f"others are written, and at most 10000000, got {self.pending_max}"
            )
        if not MEBIBYTE <= self.bytes_max <= 1024 * MEBIBYTE:
            raise ValueError(f"bytes_max must lie between 1 MiB and 1 GiB, got {self.bytes_max} bytes")
        if not 2 <= self.merge_files_min <= 1_000:
            raise ValueError(f"merge_files_min must lie between 2 and 1000 files, got {self.merge_files_min}")
        if not MEBIBYTE <= self.merge_bytes_max <= 256 * MEBIBYTE:
            raise ValueError(f"merge_bytes_max must lie between 1 MiB and 256 MiB, got {self.merge_bytes_max} bytes")
        for kind in TableClass:
            days = getattr(self, f"retention_days_{kind.value}")
            if not 0 <= days <= 36_500:
                raise ValueError(f"retention_days_{kind.value} must lie between 0 (for good) and 36500, got {days}")
        self._check_questdb()

    @property
    def writer_options(self) -> WriterOptions:
        """Return what the writer to QuestDB needs to know of these settings."""
        return WriterOptions(
            spool_bytes_ticks=self.questdb_spool_bytes_ticks, spool_bytes_records=self.questdb_spool_bytes_records
        )

    @property
    def store_options(self) -> ParquetOptions:
        """Return what the store needs to know of these settings."""
        return ParquetOptions(
            merge_files_min=self.merge_files_min,
            merge_bytes_max=self.merge_bytes_max,
            retention_days={kind: getattr(self, f"retention_days_{kind.value}") for kind in TableClass},
        )

    def _check_questdb(self) -> None:
        for name in ("questdb_spool_bytes_ticks", "questdb_spool_bytes_records"):
            if not MEBIBYTE <= getattr(self, name) <= 1024 * 1024 * MEBIBYTE:
                raise ValueError(f"{name} must lie between 1 MiB and 1 TiB, got {getattr(self, name)} bytes")
        if not self.questdb_url:
            return
        check_url(self.questdb_url)
        if not self.questdb_password_file:
            raise ValueError("questdb_password_file must name the file with the HTTP password when questdb_url is set")
