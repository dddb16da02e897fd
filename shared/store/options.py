"""The embedded store's settings, apart from the code that needs Parquet."""

from collections.abc import Mapping

import msgspec

from shared.store.tables import TableClass


class ParquetOptions(msgspec.Struct, frozen=True):
    """Say when small files are merged and how long rows stay; a class without `retention_days` is kept for good.

    A day that nobody wrote to for `quiet_after_s` is merged down to the last pair. Merged files stay for readers that
    have begun with them, `reader_grace_s` long.
    """

    merge_files_min: int = 16
    merge_bytes_max: int = 16 * 1024 * 1024
    quiet_after_s: float = 900.0
    reader_grace_s: float = 60.0
    retention_days: Mapping[TableClass, int] = msgspec.field(default_factory=dict)
