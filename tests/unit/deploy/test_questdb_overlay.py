"""QuestDB's overlay keeps the rules of the compose file, and asks nothing of an engine that some engines refuse."""

import re
from pathlib import Path

import msgspec
import pytest

from services.recorder.config import RecorderConfig
from shared.config import load_settings
from shared.store.questdb.server import HTTP_PASSWORD, PG_PASSWORD, USER, VERSION, main, password_file, read_password

ROOT = Path(__file__).parents[3]
OVERLAY = ROOT / "deploy/questdb/compose.yml"
VARIABLE = re.compile(r"\$\{(\w+):?-([^}]*)\}")
Table = dict[str, object]


@pytest.fixture(scope="module")
def services() -> dict[str, Table]:
    return msgspec.yaml.decode(OVERLAY.read_bytes(), type=dict[str, dict[str, Table]])["services"]


def test_the_image_is_the_version_that_is_tested(services: dict[str, Table]) -> None:
    assert services["questdb"]["image"] == f"questdb/questdb:{VERSION}"


@pytest.mark.parametrize("name", ["questdb", "questdb_files"])
def test_the_added_containers_have_the_least_rights(services: dict[str, Table], name: str) -> None:
    one = services[name]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["profiles"] == ["questdb"]
    assert not {"ports", "privileged", "cap_add"} & set(one)
    assert one.get("networks") == ["core"] or one.get("network_mode") == "none"


def test_no_engine_is_asked_for_limits_that_it_may_refuse(services: dict[str, Table]) -> None:
    # An engine without root may not raise a hard limit: the container would never start.
    assert not {"ulimits", "sysctls", "devices"} & {key for one in services.values() for key in one}


def test_the_server_does_not_see_the_passwords_apart_from_its_own_configuration(services: dict[str, Table]) -> None:
    holders = {name for name, one in services.items() if "questdb_secrets" in str(one.get("volumes"))}
    assert holders == {"questdb_files", "recorder"}
    assert "questdb_secrets:/questdb_secrets:ro" in str(services["recorder"]["volumes"])


def test_what_the_first_container_writes_is_where_the_recorder_looks(
    services: dict[str, Table], tmp_path: Path
) -> None:
    command = [str(word) for word in services["questdb_files"]["command"]]  # type: ignore[attr-defined]
    assert command[:3] == ["python", "-m", "shared.store.questdb.server"]
    inside = {"/questdb": tmp_path / "questdb", "/questdb_secrets": tmp_path / "questdb_secrets"}
    assert main([str(inside.get(word, word)) for word in command[3:]]) == 0
    written = (tmp_path / "questdb/conf/server.conf").read_text()
    assert f"http.user={USER}\n" in written
    assert "http.net.bind.to=0.0.0.0:9000\n" in written
    for name in (HTTP_PASSWORD, PG_PASSWORD):
        assert read_password(tmp_path / "questdb_secrets", name) in written
    environment = services["recorder"]["environment"]
    assert isinstance(environment, dict)
    environ = {key: VARIABLE.sub(lambda found: "http://questdb:9000", value) for key, value in environment.items()}
    config = load_settings(environ=environ).section("recorder", RecorderConfig)
    assert config.questdb_url == "http://questdb:9000"
    assert Path(config.questdb_password_file) == password_file(Path("/questdb_secrets"), HTTP_PASSWORD)
    # Without the profile the overlay changes nothing: no address, no QuestDB.
    environ = {key: VARIABLE.sub(lambda found: found[2], value) for key, value in environment.items()}
    assert load_settings(environ=environ).section("recorder", RecorderConfig).questdb_url == ""
