from hypothesis import given
from hypothesis import strategies as st

from services.market_data.core.pacing import Go, LastStep, Pace, Wait, laggards, next_step, pace_for

SECOND = 1_000_000_000
FREE = Pace(interval_ns=0, participants=("risk", "execution"))
TIMED = Pace(interval_ns=SECOND, participants=("risk",))


def test_a_speed_factor_divides_the_interval_of_the_bars():
    assert pace_for(900 * SECOND, 900.0, ()).interval_ns == SECOND
    assert pace_for(900 * SECOND, 0.5, ()).interval_ns == 1800 * SECOND
    assert pace_for(900 * SECOND, 1e30, ()).interval_ns == 1
    assert pace_for(900 * SECOND, None, ()).interval_ns == 0


def test_the_first_step_waits_until_everybody_has_shown_life():
    assert next_step(FREE, None, {}, set(), 5) == Wait(wait_ns=None, laggards=("risk", "execution"))
    assert next_step(FREE, None, {}, {"risk"}, 5) == Wait(wait_ns=None, laggards=("execution",))
    assert next_step(FREE, None, {"execution": 0}, {"risk"}, 5) == Go(published_at_ns=5)


def test_at_full_speed_the_next_step_follows_the_last_report():
    last = LastStep(close_time_ns=100, published_at_ns=0)
    assert next_step(FREE, last, {"risk": 100}, {"execution"}, 1) == Wait(wait_ns=None, laggards=("execution",))
    assert next_step(FREE, last, {"risk": 100, "execution": 99}, set(), 1) == Wait(None, ("execution",))
    assert next_step(FREE, last, {"risk": 100, "execution": 100}, set(), 1) == Go(published_at_ns=1)


def test_without_participants_only_the_clock_counts():
    assert next_step(Pace(0, ()), LastStep(100, 0), {}, set(), 0) == Go(0)
    assert next_step(Pace(SECOND, ()), LastStep(100, 0), {}, set(), 0) == Wait(SECOND, ())


def test_a_finite_speed_waits_for_the_clock_and_for_the_participants():
    last = LastStep(close_time_ns=100, published_at_ns=10 * SECOND)
    done = {"risk": 100}
    assert next_step(TIMED, last, done, set(), 10 * SECOND + 1) == Wait(SECOND - 1, ())
    assert next_step(TIMED, last, {}, set(), 10 * SECOND + 1) == Wait(SECOND - 1, ("risk",))
    assert next_step(TIMED, last, {}, set(), 12 * SECOND) == Wait(None, ("risk",))
    assert next_step(TIMED, last, done, set(), 11 * SECOND) == Go(11 * SECOND)


def test_small_delays_are_made_up_and_stalls_are_not():
    last = LastStep(close_time_ns=100, published_at_ns=10 * SECOND)
    done = {"risk": 100}
    assert next_step(TIMED, last, done, set(), 11 * SECOND + 5) == Go(11 * SECOND)
    assert next_step(TIMED, last, done, set(), 60 * SECOND) == Go(60 * SECOND)


@given(
    interval=st.integers(0, 10),
    last=st.none() | st.builds(LastStep, st.integers(0, 20), st.integers(0, 20)),
    progress=st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)),
    alive=st.sets(st.sampled_from("abc")),
    now=st.integers(0, 40),
)
def test_no_step_runs_ahead_of_a_participant_or_of_the_clock(interval, last, progress, alive, now):
    pace = Pace(interval, ("a", "b"))
    verdict = next_step(pace, last, progress, alive, now)
    late = laggards(pace, last, progress, alive)
    if isinstance(verdict, Go):
        assert not late
        assert last is None or (now >= last.published_at_ns + interval or interval == 0)
        assert verdict.published_at_ns <= now
    else:
        assert verdict.laggards == late
        assert late or (last is not None and verdict.wait_ns is not None and verdict.wait_ns > 0)
