"""Fault switches and schedules: what goes off, how often, and that the same seed gives the same."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox_exchange.config import read_schedule
from services.sandbox_exchange.core.fault_schedule import chaos
from services.sandbox_exchange.core.faults import Fault, FaultName, Faults
from shared.errors import ConfigError

DROP = FaultName.FRAME_DROP


def faults(seed: int = 1) -> Faults:
    return Faults(random.Random(seed).random)


def test_a_switch_goes_off_so_many_times_after_so_many_occasions() -> None:
    one = faults()
    one.arm(Fault(name=DROP, after=2, times=3))
    assert [one.take(DROP) is not None for _ in range(8)] == [False, False, True, True, True, False, False, False]
    assert one.is_quiet
    assert one.fired == {DROP: 3}


def test_a_switch_without_times_stays_until_it_is_disarmed() -> None:
    one = faults()
    number = one.arm(Fault(name=DROP, times=None))
    assert all(one.take(DROP) for _ in range(50))
    one.disarm(number)
    assert one.take(DROP) is None
    assert one.is_quiet


def test_other_occasions_do_not_use_a_switch_up() -> None:
    one = faults()
    one.arm(Fault(name=DROP, route="spot@public.aggre.depth", symbol="BTCUSDT"))
    assert one.take(FaultName.FRAME_REORDER, route="spot@public.aggre.depth", symbol="BTCUSDT") is None
    assert one.take(DROP, route="spot@public.aggre.deals", symbol="BTCUSDT") is None
    assert one.take(DROP, route="spot@public.aggre.depth", symbol="HUSDT") is None
    assert one.take(DROP, route="spot@public.aggre.depth.v3", symbol="BTCUSDT") is not None


def test_two_switches_of_one_name_are_used_one_after_the_other() -> None:
    one = faults()
    one.arm(Fault(name=DROP, parameter=1))
    one.arm(Fault(name=DROP, parameter=2))
    assert [fault.parameter if (fault := one.take(DROP)) else None for _ in range(3)] == [1, 2, None]


def test_disarming_all_leaves_nothing() -> None:
    one = faults()
    for name in FaultName:
        one.arm(Fault(name=name, times=None))
    one.disarm(99_999)
    assert len(one.armed) == len(FaultName)
    one.disarm()
    assert one.armed == {}
    assert one.is_quiet


def test_a_standing_fault_is_not_used_up_by_looking() -> None:
    one = faults()
    one.arm(Fault(name=FaultName.CLOCK_SKEW, parameter=5))
    assert [one.standing(FaultName.CLOCK_SKEW) is not None for _ in range(3)] == [True] * 3
    assert one.fired == {}


def test_a_switch_has_its_time() -> None:
    one = faults()
    one.arm(Fault(name=DROP, from_s=10, until_s=20, times=None))
    assert [one.take(DROP, elapsed_s=at) is not None for at in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert one.is_quiet, "a switch whose time is over is dropped"


@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_chance_is_the_seed_s(seed: int, probability: float) -> None:
    runs = []
    for _ in range(2):
        one = faults(seed)
        one.arm(Fault(name=DROP, times=None, probability=probability))
        runs.append([one.take(DROP) is not None for _ in range(40)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": "frame_lost"}, "frame_lost"),
        ({"name": "http_429", "times": 0}, "times"),
        ({"name": "http_429", "after": -1}, "after"),
        ({"name": "http_429", "probability": 0}, "probability"),
        ({"name": "http_429", "probability": 1.1}, "probability"),
        ({"name": "latency", "parameter": -1}, "parameter"),
        ({"name": "latency", "from_s": 5, "until_s": 5}, "until_s"),
        ({"name": "latency", "seconds": 5}, "seconds"),
    ],
)
def test_a_switch_that_cannot_work_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(fields, Fault)


def test_chaos_is_the_seed_s_and_passes_by_itself() -> None:
    one, same, other = (chaos(random.Random(seed).random, duration_s=600) for seed in (7, 7, 8))
    assert one == same
    assert one != other
    assert 60 <= len(one.faults) <= 240
    assert all(fault.until_s is not None and fault.times is not None for fault in one.faults)
    assert FaultName.CLOCK_SKEW not in {fault.name for fault in one.faults}


def test_chaos_ends_with_a_generator_of_zeros() -> None:
    assert chaos(lambda: 0.0, duration_s=100, every_s=5).faults


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_schedule_is_read_from_both_kinds_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"faults{suffix}"
    texts = {
        ".toml": 'seed = 3\n[[faults]]\nname = "http_429"\nfrom_s = 1\ntimes = 2\n',
        ".json": '{"seed": 3, "faults": [{"name": "http_429", "from_s": 1, "times": 2}]}',
    }
    path.write_text(texts[suffix])
    schedule = read_schedule(path)
    assert schedule.seed == 3
    assert schedule.faults == (Fault(name=FaultName.HTTP_429, from_s=1, times=2),)


@pytest.mark.parametrize(
    ("text", "named"),
    [("[[faults]]\nname = 'nonsense'", "nonsense"), ("faults = 3", "faults"), ("[[", "faults.toml"), ("x = 1", "x")],
)
def test_a_bad_schedule_is_refused_with_its_place(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read_schedule(path)


def test_a_schedule_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        read_schedule(tmp_path / "gone.toml")
