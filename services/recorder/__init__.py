"""5: Everything that travels on the bus comes in; Parquet files of the store go out.

What comes from a stream is acknowledged when it is on disk, so nothing of it is ever lost; what comes without one
(ticks, heartbeats) waits at most `flush_interval_s` in memory. It must never acknowledge what is not on disk, hold more
than its bounds, drop anything uncounted, or make the rest of the stack wait for a disk.
"""
