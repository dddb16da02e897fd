"""The recorder's settings refuse what cannot work and say why."""

import pytest

from services.recorder.config import RecorderConfig
from shared.config import Settings
from shared.errors import ConfigError
from shared.store.tables import TableClass


def test_the_defaults_are_valid_and_reach_the_store() -> None:
    config = RecorderConfig()
    assert config.flush_interval_s == 2.0
    assert config.store_options.retention_days[TableClass.TRADING] == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flush_interval_s", 0),
        ("flush_interval_s", -1),
        ("flush_interval_s", float("nan")),
        ("flush_interval_s", 61),
        ("rows_max", 0),
        ("pending_max", 100),
        ("pending_max", 10**9),
        ("bytes_max", 1),
        ("bytes_max", 10**12),
        ("merge_files_min", 1),
        ("merge_bytes_max", 0),
        ("retention_days_ticks", -1),
        ("retention_days_system", 10**6),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"recorder.*{key} must"):
        Settings({"recorder": {key: value}}).section("recorder", RecorderConfig)


def test_an_unknown_key_is_refused_with_the_likely_one() -> None:
    with pytest.raises(ConfigError, match="flush_interval_s"):
        Settings({"recorder": {"flush_intervall_s": 2}}).section("recorder", RecorderConfig)
