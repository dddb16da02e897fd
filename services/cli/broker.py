"""The stack's own nats-server: configuration, keys, and the bootstrap of streams and buckets.

In: a directory and free ports. Out: a process spec, and a server with every stream that the services expect.
Never: a server that listens beyond loopback, a service that creates streams.
"""

import asyncio
from pathlib import Path

from services.cli.supervisor.child import ProcessSpec
from services.cli.supervisor.ports import free_port
from services.cli.supervisor.probe import NatsProbe
from shared.bus.nats import NatsBus
from shared.bus.permissions import StrategyUser, roles
from shared.bus.server import ServerSettings, find_server, prepare, seed_file, start_command
from shared.bus.streams import BUCKETS, STREAMS
from shared.errors import BusUnavailableError, ConfigError

PORT = 4222
MONITOR_PORT = 8222
BOOTSTRAP_TIMEOUT_S = 30.0
NAME = "nats"


def nats_url(port: int) -> str:
    """Return the address of a server on loopback."""
    return f"nats://127.0.0.1:{port}"


def nats_spec(directory: Path, environ: dict[str, str], *, strategy: str) -> ProcessSpec:
    """Write the server's files and return how to run it; raises ConfigError when no usable server is installed.

    `strategy` is the name in which the rebalancer may intend orders, and the only one.
    """
    binary = find_server()
    try:
        port = free_port(PORT)
        monitor = free_port(MONITOR_PORT, taken=frozenset({port}))
    except OSError as error:
        raise ConfigError(f"the message bus finds no port: {error}; free one") from error
    settings = ServerSettings(store_dir=directory / "jetstream", port=port, http_port=monitor)
    config = prepare(directory, settings, roles((StrategyUser(service="rebalancer", strategy=strategy),)))

    async def make_streams() -> None:
        await bootstrap(nats_url(port), seed_file(directory, "admin"))

    return ProcessSpec(
        name=NAME,
        argv=tuple(start_command(binary, config)),
        env=environ,
        port=port,
        port_is_fixed=True,
        probe=NatsProbe(directory.parent / "logs" / f"{NAME}.log"),
        once_ready=make_streams,
        essential=True,
    )


async def bootstrap(url: str, admin_key: Path | None) -> None:
    """Create or update every stream and bucket; raises BusUnavailableError when the server does not answer in time."""
    failed: list[BaseException] = []
    bus = NatsBus(url, service="admin", nkey_file=admin_key, on_fatal=failed.append)
    try:
        async with asyncio.timeout(BOOTSTRAP_TIMEOUT_S):
            await bus.connect()
            await bus.bootstrap(STREAMS, BUCKETS)
    except TimeoutError as error:
        raise BusUnavailableError(f"streams were not ready within {BOOTSTRAP_TIMEOUT_S:g} s at {url}") from error
    finally:
        await bus.close()
