"""The stack's own QuestDB, apart from the commands: `cascade up` loads it and must start at once.

In: a directory, free ports, a jar and a Java. Out: how to run the server, and the recorder's settings for it. Never: a
default password, a password in a command line.
"""

from pathlib import Path

from services.cli.supervisor.child import ProcessSpec
from services.cli.supervisor.ports import free_port
from services.cli.supervisor.probe import questdb_ready
from shared.config import Settings
from shared.store.questdb.server import (
    HTTP_PASSWORD,
    USER,
    ServerPorts,
    find_jar,
    find_java,
    password_file,
    prepare,
    start_command,
)

NAME = "questdb"
STOP_TIMEOUT_S = 20.0


def questdb_spec(
    directory: Path, settings: Settings, environ: dict[str, str], taken: frozenset[int] = frozenset()
) -> tuple[ProcessSpec, Settings]:
    """Return how to run the stack's own server, and settings with which the recorder writes to it.

    Raises ConfigError when there is no jar or no Java.
    """
    java, jar = find_java(environ), find_jar(environ)
    ports = free_ports(ServerPorts(), taken)
    prepare(directory, ports)
    spec = ProcessSpec(
        name=NAME,
        argv=start_command(java, jar, directory),
        env=environ,
        port=ports.http,
        port_is_fixed=True,
        probe=questdb_ready,
        stop_timeout_s=STOP_TIMEOUT_S,
    )
    table = settings.tree.get("recorder") or {}
    assert isinstance(table, dict)
    recorder = {
        **table,
        "questdb_url": f"http://127.0.0.1:{ports.http}",
        "questdb_user": USER,
        "questdb_password_file": str(password_file(directory, HTTP_PASSWORD).absolute()),
    }
    return spec, Settings({**settings.tree, "recorder": recorder})


def free_ports(wanted: ServerPorts, taken: frozenset[int]) -> ServerPorts:
    """Return the wanted ports, or free ones where they are taken."""
    found: list[int] = []
    for port in (wanted.http, wanted.pg, wanted.health):
        found.append(free_port(port, taken=taken | set(found)))
    return ServerPorts(*found)
