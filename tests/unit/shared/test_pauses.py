"""A computer that slept is noticed, one that is only busy is not."""

from hypothesis import given
from hypothesis import strategies as st

from shared.clock import NANOSECONDS_PER_SECOND as S
from shared.pauses import PAUSE_MIN_S, SET_BACK_MIN_S, PauseWatch, told


class Wall:
    def __init__(self) -> None:
        self.now_ns = 1_800_000_000 * S

    def __call__(self) -> int:
        return self.now_ns


@given(moves=st.lists(st.floats(-SET_BACK_MIN_S / 2, 2.0 + PAUSE_MIN_S / 2), max_size=20))
def test_looks_that_come_about_in_time_are_no_pause(moves: list[float]) -> None:
    wall = Wall()
    watch = PauseWatch(every_s=2.0, now_ns=wall)
    for moved_s in moves:
        wall.now_ns += int(moved_s * S)
        assert watch.look() == 0.0


@given(slept_s=st.one_of(st.floats(2.0 + PAUSE_MIN_S + 0.01, 1e6), st.floats(-1e6, -SET_BACK_MIN_S - 0.01)))
def test_a_pause_is_told_once_with_its_length(slept_s: float) -> None:
    wall = Wall()
    watch = PauseWatch(every_s=2.0, now_ns=wall)
    wall.now_ns += int(slept_s * S)
    assert abs(watch.look() - slept_s) < 1e-6
    assert watch.look() == 0.0


def test_what_a_pause_means_is_told_in_words() -> None:
    assert told(7_200.4) == "this computer slept for 7200 s, or its clock was set"
    assert told(-30.0) == "this computer's clock was set back by 30 s"
