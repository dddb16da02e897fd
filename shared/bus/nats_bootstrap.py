"""Create or update the streams and buckets of the stack; done by the bootstrap step alone.

In: specifications. Out: JetStream streams that match them, with what they hold untouched. Never: a stream deleted.
"""

import msgspec

from shared.bus import nats_api as api
from shared.bus.nats_connection import NatsConnection
from shared.bus.nats_requests import call
from shared.bus.port import StreamSpec
from shared.clock import NANOSECONDS_PER_SECOND
from shared.errors import ConfigError

TIMEOUT_S = 10.0
DUPLICATE_WINDOW_S = 120.0


def stream_config(spec: StreamSpec) -> dict[str, object]:
    """Return the JetStream configuration of a stream: one replica, oldest out first, nothing deletable by clients."""
    return {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "retention": "limits",
        "storage": "memory" if spec.in_memory else "file",
        "num_replicas": 1,
        "max_msgs": spec.max_messages,
        "max_msgs_per_subject": spec.max_messages_per_subject,
        "max_age": int(spec.max_age_s * NANOSECONDS_PER_SECOND),
        "discard": "old",
        "duplicate_window": int(spec.duplicate_window_s * NANOSECONDS_PER_SECOND),
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
    }


def bucket_config(name: str) -> dict[str, object]:
    """Return the JetStream configuration of a key-value bucket with one revision of history."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": 1,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "duplicate_window": int(DUPLICATE_WINDOW_S * NANOSECONDS_PER_SECOND),
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
    }


async def ensure_stream(connection: NatsConnection, config: dict[str, object]) -> None:
    """Create the stream, or update it where it differs; raises ConfigError when the server cannot do that."""
    name = config["name"]
    found = await call(connection, api.StreamAnswer, f"{api.API}.STREAM.INFO.{name}", b"", timeout_s=TIMEOUT_S)
    if found.error is None:
        if all(found.config.get(key, 0) == value for key, value in config.items()):
            return
        verb, wanted = "UPDATE", {**found.config, **config}
    elif found.error.err_code == api.ERROR_STREAM_NOT_FOUND:
        verb, wanted = "CREATE", config
    else:
        raise ConfigError(f"stream {name}: {found.error.description}")
    subject = f"{api.API}.STREAM.{verb}.{name}"
    made = await call(connection, api.StreamAnswer, subject, msgspec.json.encode(wanted), timeout_s=TIMEOUT_S)
    if made.error is not None:
        raise ConfigError(f"stream {name} cannot be made as configured: {made.error.description}")
