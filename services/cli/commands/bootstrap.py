"""`cascade bootstrap`: create streams and buckets on a server that somebody else runs (compose)."""

import asyncio

from services.cli.broker import bootstrap as make_streams
from shared.bus.streams import BUCKETS, STREAMS
from shared.lifecycle import ProcessConfig


def bootstrap() -> None:
    """Create or update the streams and buckets at CASCADE_NATS_URL with the key in CASCADE_NKEY_FILE, then end."""
    process = ProcessConfig.from_environment()
    asyncio.run(make_streams(process.nats_url, process.nkey_file))
    print(f"{len(STREAMS)} streams and {len(BUCKETS)} buckets are ready at {process.nats_url}")
