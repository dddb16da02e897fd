"""The restart policy: bounded, spread, and final about configuration errors."""

from hypothesis import given
from hypothesis import strategies as st

from services.cli.supervisor.policy import DISK_FULL, Action, History, RestartPolicy, on_end, restart_delay_s

POLICY = RestartPolicy()

ends = st.lists(
    st.tuples(st.floats(0, 300), st.floats(0, 300), st.sampled_from([0, 1, -9, -15, 137])), min_size=1, max_size=60
)


def test_configuration_error_stops_the_stack_at_once() -> None:
    _, verdict = on_end(POLICY, History(), code=2, ran_s=0.1, now_s=5.0, jitter=0.0)
    assert verdict.action is Action.STOP_STACK


def test_first_end_is_followed_by_a_quick_restart() -> None:
    _, verdict = on_end(POLICY, History(), code=-9, ran_s=100.0, now_s=5.0, jitter=0.5)
    assert verdict.action is Action.RESTART
    assert 0 < verdict.delay_s <= POLICY.delay_first_s
    assert verdict.reason == "ended by signal 9"


def test_clean_end_that_nobody_asked_for_is_restarted_too() -> None:
    _, verdict = on_end(POLICY, History(), code=0, ran_s=100.0, now_s=5.0, jitter=0.5)
    assert verdict.action is Action.RESTART


def test_long_run_forgives_earlier_crashes() -> None:
    history = History((0.0, 1.0, 2.0), streak=3)
    history, verdict = on_end(POLICY, history, code=1, ran_s=POLICY.stable_after_s, now_s=1_000.0, jitter=1.0)
    assert history == History((1_000.0,), streak=1)
    assert verdict.delay_s <= POLICY.delay_first_s


def test_crash_loop_ends_at_the_cap_exactly() -> None:
    history, actions = History(), []
    for number in range(POLICY.ends_max + 1):
        history, verdict = on_end(POLICY, history, code=1, ran_s=0.1, now_s=float(number), jitter=0.0)
        actions.append(verdict.action)
    assert actions == [Action.RESTART] * POLICY.ends_max + [Action.GIVE_UP]


@given(ends)
def test_never_more_restarts_within_the_window_than_the_cap(runs: list[tuple[float, float, int]]) -> None:
    history, now_s, restarts = History(), 0.0, []
    for ran_s, pause_s, code in runs:
        now_s += ran_s
        history, verdict = on_end(POLICY, history, code=code, ran_s=ran_s, now_s=now_s, jitter=0.5)
        if verdict.action is Action.GIVE_UP:
            break
        restarts.append(now_s)
        now_s += pause_s
    for at in restarts:
        assert sum(at - POLICY.window_s < other <= at for other in restarts) <= POLICY.ends_max


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delay_is_positive_and_bounded(streak: int, jitter: float) -> None:
    assert 0 < restart_delay_s(POLICY, streak, jitter) <= POLICY.delay_max_s


@given(st.integers(1, 200))
def test_delay_never_shrinks_with_the_streak(streak: int) -> None:
    assert restart_delay_s(POLICY, streak, 0.3) <= restart_delay_s(POLICY, streak + 1, 0.3)


def test_full_disk_is_never_given_up_and_pauses_longer_each_time() -> None:
    history, delays = History(), []
    for number in range(200):
        history, verdict = on_end(POLICY, history, code=3, ran_s=0.2, now_s=float(number), jitter=1.0)
        assert (verdict.action, verdict.reason) == (Action.RESTART, DISK_FULL)
        delays.append(verdict.delay_s)
    assert delays[0] == POLICY.delay_first_s
    assert delays == sorted(delays)
    assert delays[-1] == POLICY.disk_full_delay_s


def test_full_disk_counts_as_no_crash() -> None:
    history = History()
    for number in range(50):
        history, _ = on_end(POLICY, history, code=3, ran_s=0.2, now_s=float(number), jitter=0.5)
    history, verdict = on_end(POLICY, history, code=1, ran_s=0.2, now_s=51.0, jitter=0.5)
    assert verdict.action is Action.RESTART
    assert history.ended_at_s == (51.0,)


def test_whatever_ends_while_the_disk_is_full_is_not_given_up() -> None:
    history = History(tuple(map(float, range(POLICY.ends_max))), streak=POLICY.ends_max)
    for code in (1, -7, 120, 127):
        _, verdict = on_end(POLICY, history, code=code, ran_s=0.2, now_s=9.0, jitter=0.5, disk_is_full=True)
        assert verdict.action is Action.RESTART


def test_configuration_error_stops_the_stack_on_a_full_disk_too() -> None:
    _, verdict = on_end(POLICY, History(), code=2, ran_s=0.1, now_s=5.0, jitter=0.0, disk_is_full=True)
    assert verdict.action is Action.STOP_STACK
