"""The compose file keeps its own rules: least rights, loopback, one key each, settings that the services accept."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from services.cli.resolve import check_sections
from services.cli.stack import AFTER, SANDBOX
from shared.config import load_settings
from shared.exchange.access import ExchangeAccess, check_access, market_wire

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yml"
IMAGE = ROOT / "deploy/docker/Dockerfile"
ONCE = {"keys", "bootstrap", "cli"}
# `${NAME:-value}` and `${NAME-value}`.
VARIABLE = re.compile(r"\$\{(\w+):?-([^}]*)\}")


class Container(msgspec.Struct):
    """Hold what a service of the compose file is."""

    image: str = ""
    command: list[str] = []
    environment: dict[str, str] = {}
    volumes: list[str] = []
    ports: list[str] = []
    networks: list[str] | dict[str, object] = []
    depends_on: dict[str, object] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    privileged: bool = False
    read_only: bool = False
    init: bool = False
    restart: str = ""
    stop_grace_period: str = ""
    mem_limit: str = ""
    pids_limit: int = 0
    healthcheck: dict[str, object] = {}
    logging: dict[str, object] = {}
    profiles: list[str] = []


class Compose(msgspec.Struct):
    """Hold the compose file."""

    services: dict[str, Container]
    volumes: dict[str, dict[str, object]]
    networks: dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def compose() -> Compose:
    return msgspec.yaml.decode(COMPOSE.read_bytes(), type=Compose, strict=False)


def filled(text: str, environ: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: environ.get(found[1], found[2]), text)


def test_compose_runs_exactly_the_services_of_the_stack(compose: Compose) -> None:
    assert set(compose.services) - ONCE - {"nats"} == set(AFTER) | set(SANDBOX)
    for name in set(AFTER) | set(SANDBOX):
        assert compose.services[name].command == ["python", "-m", f"services.{name}"]


def test_every_container_has_the_least_rights(compose: Compose) -> None:
    for name, one in compose.services.items():
        assert one.read_only, name
        assert not one.privileged, name
        assert (one.cap_drop, one.cap_add) == (["ALL"], []), name
        assert one.security_opt == ["no-new-privileges:true"], name
        assert one.mem_limit, name
        assert one.pids_limit, name
        assert one.logging["options"], name
        assert one.restart == ("no" if name in ONCE else "unless-stopped"), name
        assert not any(volume.startswith((".", "/", "~")) for volume in one.volumes), name
    assert "\nUSER 10001\n" in IMAGE.read_text()


def test_nothing_is_published_beyond_this_machine(compose: Compose) -> None:
    published = {name: one.ports for name, one in compose.services.items() if one.ports}
    assert set(published) == {"dashboard", "sandbox_exchange"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert compose.networks["core"] == {"internal": True}
    assert {name for name, one in compose.services.items() if "front" in one.networks} == set(published)


def test_each_service_sees_its_own_key_alone(compose: Compose) -> None:
    for name, one in compose.services.items():
        keys = {volume.partition(":")[0]: volume for volume in one.volumes if volume.startswith("key")}
        if name == "keys":
            assert set(keys) == {volume for volume in compose.volumes if volume.startswith("key")}
            continue
        owner = {"nats": "keys", "bootstrap": "key_admin"}.get(name, f"key_{name}")
        assert set(keys) == {owner}, name
        assert keys[owner].endswith(":ro"), name


def test_no_secret_is_said_in_the_environment_or_on_a_command_line(compose: Compose) -> None:
    for name, one in compose.services.items():
        for key, value in one.environment.items():
            if re.search(r"KEY|SECRET|PASSWORD|TOKEN", key):
                assert key.endswith("_FILE"), f"{name}: {key} must name a file"
                assert value.startswith("/key/"), f"{name}: {key}"
    holders = {name for name, one in compose.services.items() if "CASCADE_EXCHANGE__SECRET_FILE" in one.environment}
    assert holders == {"execution"}


@pytest.mark.parametrize(
    "asked",
    [{}, {"VENUE": "binance", "SANDBOX_WS_PATH": ""}, {"MODE": "replay"}, {"ASSETS": "BTCUSDT,ETHUSDT", "SPEED": "60"}],
    ids=["default", "binance", "replay", "assets"],
)
def test_every_service_accepts_its_environment(compose: Compose, asked: dict[str, str]) -> None:
    for name, one in compose.services.items():
        environ = {key: filled(value, asked) for key, value in one.environment.items()}
        settings = load_settings(environ=environ)
        check_sections(settings)
        assert settings.stack.mode.value == asked.get("MODE", "sandbox") or not environ, name
        if environ and settings.stack.mode.is_wire:
            access = settings.section("exchange", ExchangeAccess)
            check_access(settings.stack, access, environ)
            wire = market_wire(settings.stack, access)
            assert (wire.venue, wire.ws_url) == (
                asked.get("VENUE", "mexc"),
                "ws://sandbox:9500" + ("" if "VENUE" in asked else "/ws"),
            )


def test_only_services_with_a_probe_are_waited_for(compose: Compose) -> None:
    for name, one in compose.services.items():
        for other, wanted in one.depends_on.items():
            condition = wanted["condition"] if isinstance(wanted, dict) else wanted
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert condition == expected, f"{name} waits for {other}"
    assert {name for name, one in compose.services.items() if one.healthcheck.get("disable")} == ONCE
    assert "HEALTHCHECK" in IMAGE.read_text()


def test_docker_itself_accepts_the_file() -> None:
    docker = next((one for one in ("/usr/bin/docker", shutil.which("docker")) if one and Path(one).exists()), None)
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker with compose on this machine")
    for more in ([], ["-f", "deploy/questdb/compose.yml", "--profile", "questdb"], ["--profile", "cli"]):
        command = [docker, "compose", "-f", COMPOSE.name, *more, "config", "--quiet"]
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (told.returncode, told.stderr) == (0, "")
