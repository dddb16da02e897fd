"""Weight windows, Retry-After and bans."""

from hypothesis import given
from hypothesis import strategies as st

from services.sandbox_exchange.wire.limits import KEYS_MAX, BanRule, Charge, Limits, Rule

S = 1_000_000_000
T0 = 1_700_000_000 * S  # a multiple of ten seconds
IP = "10.0.0.1"


def limits(weight_max: int = 5, refusals_max: int = 3) -> Limits:
    return Limits({"ip": Rule(weight_max, 10)}, BanRule(refusals_max=refusals_max, ban_min_s=120, ban_max_s=400))


def ask(one: Limits, now_ns: int, weight: int = 1, client: str = IP) -> tuple[int, int]:
    verdict = one.charge(client, [Charge("ip", client, weight)], now_ns)
    return verdict.status, verdict.retry_after_s


def test_exactly_the_limit_passes_and_one_more_does_not() -> None:
    one = limits()
    assert [ask(one, T0)[0] for _ in range(6)] == [200] * 5 + [429]


def test_weights_count_and_not_requests() -> None:
    one = limits()
    assert ask(one, T0, 5) == (200, 0)
    assert ask(one, T0, 1)[0] == 429


def test_retry_after_is_the_rest_of_the_window_rounded_up() -> None:
    one = limits()
    ask(one, T0, 5)
    assert ask(one, T0 + 3 * S + 1) == (429, 7)
    assert ask(one, T0 + 10 * S - 1) == (429, 1)
    assert ask(one, T0 + 10 * S) == (200, 0)


def test_clients_do_not_pay_for_each_other() -> None:
    one = limits()
    ask(one, T0, 6)
    assert ask(one, T0, client="10.0.0.2") == (200, 0)


def test_who_asks_on_while_refused_is_banned_and_longer_each_time() -> None:
    one = limits()
    ask(one, T0, 5)
    assert [ask(one, T0)[0] for _ in range(4)] == [429, 429, 429, 418]
    assert one.banned_s(IP, T0) == 120
    assert ask(one, T0 + 119 * S) == (418, 1)
    later = T0 + 120 * S
    assert one.banned_s(IP, later) == 0
    ask(one, later, 5)
    assert [ask(one, later) for _ in range(4)][-1] == (418, 240)
    assert ask(one, later + 240 * S, 5) == (200, 0)
    assert [ask(one, later + 240 * S) for _ in range(4)][-1] == (418, 400)


def test_obeying_clears_the_count_of_refusals() -> None:
    one = limits()
    for window in range(20):
        now_ns = T0 + window * 10 * S
        ask(one, now_ns, 5)
        assert [ask(one, now_ns)[0] for _ in range(3)] == [429] * 3


def test_pardon_forgets_everything() -> None:
    one = limits()
    ask(one, T0, 9)
    one.ban(IP, 60, T0)
    one.pardon()
    assert ask(one, T0) == (200, 0)


def test_an_ended_window_is_forgotten_when_many_clients_came() -> None:
    one = limits()
    for number in range(KEYS_MAX):
        ask(one, T0, client=str(number))
    ask(one, T0 + 10 * S, client="new")
    assert one.used("ip", "new", T0 + 10 * S) == 1
    assert len(one._used) == 1


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 3)), max_size=80))
def test_no_window_ever_lets_more_than_the_limit_through(steps: list[tuple[int, int]]) -> None:
    one = limits(refusals_max=10_000)
    now_ns, passed = T0, dict[int, int]()
    for milliseconds, weight in steps:
        now_ns += milliseconds * 1_000_000
        if ask(one, now_ns, weight)[0] == 200:
            window = now_ns // (10 * S)
            passed[window] = passed.get(window, 0) + weight
    assert all(total <= 5 for total in passed.values())
