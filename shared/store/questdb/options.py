"""The settings of the QuestDB writer, apart from it, so that reading a configuration loads no database client."""

import urllib.parse

import msgspec

MEBIBYTE = 1024 * 1024


class WriterOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bound the writer.

    `flush_interval_s` is how long an offered row waits in memory at most, `rows_max` may wait there before it is
    early, `pending_max` at all. The spool keeps `spool_bytes_ticks` of ticks and `spool_bytes_records` of everything
    else, so a flood of ticks never costs an order; the oldest go first. `sync` False trusts the page cache.
    """

    flush_interval_s: float = 0.1
    rows_max: int = 20_000
    pending_max: int = 200_000
    spool_bytes_ticks: int = 2048 * MEBIBYTE
    spool_bytes_records: int = 1024 * MEBIBYTE
    sync: bool = True
    retry_first_s: float = 0.25
    retry_max_s: float = 5.0
    watch_interval_s: float = 3.0
    watch_grace_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0.001 <= self.flush_interval_s <= 60:
            raise ValueError(f"flush_interval_s must lie between 0.001 and 60 seconds, got {self.flush_interval_s}")
        if not 1 <= self.rows_max <= self.pending_max <= 10_000_000:
            raise ValueError(
                f"rows_max must be at least 1 and at most pending_max, pending_max at most 10000000, "
                f"got {self.rows_max} and {self.pending_max}"
            )
        for name in ("spool_bytes_ticks", "spool_bytes_records"):
            if not MEBIBYTE <= getattr(self, name) <= 1024 * 1024 * MEBIBYTE:
                raise ValueError(f"{name} must lie between 1 MiB and 1 TiB, got {getattr(self, name)} bytes")
        if not 0 < self.retry_first_s <= self.retry_max_s <= 60:
            raise ValueError("retry_first_s must be positive and at most retry_max_s, retry_max_s at most 60 seconds")
        if not 0.05 <= self.watch_interval_s <= 8:
            raise ValueError("watch_interval_s must lie between 0.05 and 8 seconds: a suspended table shows within 10")


def check_url(url: str) -> None:
    """Raise ValueError unless `url` names a server and nothing else."""
    parts = urllib.parse.urlsplit(url)
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None or not plain:
        raise ValueError(f"questdb_url must look like http://127.0.0.1:9000, without a user or a path, got {url!r}")
