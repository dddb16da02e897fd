"""The allow lists as a table: exclusive rights are exclusive, and no right lets a frame be forged."""

import pytest

from shared.bus import subjects
from shared.bus.permissions import STRATEGIES, Role, StrategyUser, roles
from shared.bus.streams import STREAMS
from shared.errors import InputError

ROLES = roles((*STRATEGIES, StrategyUser(service="market_maker", strategy="maker")))

EXCLUSIVE = {
    "ord.approved.sandbox.A-USDT": {"risk"},
    "ord.refused.cascade": {"risk"},
    "risk.state": {"risk"},
    "ord.event.cascade.sandbox.A-USDT": {"execution"},
    "acct.sandbox": {"execution"},
    "md.bar.4h.sandbox.A-USDT": {"market_data"},
    "md.closed.4h.sandbox": {"market_data"},
    "ord.intent.cascade.sandbox.A-USDT": {"rebalancer"},
    "ord.intent.maker.sandbox.A-USDT": {"market_maker"},
    "cmd.risk.halt": {"dashboard", "cli"},
    "hb.risk.0": {"risk"},
    "progress.execution": {"execution"},
    "dead.recorder": {"recorder"},
    "decision.rebalancer.cascade": {"rebalancer"},
    "$KV.state.risk.x": {"risk"},
    "risk.halt": {"market_data", "rebalancer", "market_maker", "risk", "execution"},
    "$JS.API.STREAM.CREATE.X": {"admin"},
    "$JS.API.STREAM.DELETE.ORDERS": {"admin"},
    "$JS.API.STREAM.PURGE.ORDERS": {"admin"},
    "$JS.API.CONSUMER.DELETE.ORDERS.risk": {"admin"},
    "$SYS.REQ.SERVER.PING": set(),
}


def may_publish(role: Role, subject: str) -> bool:
    return any(subjects.matches(pattern, subject) for pattern in role.publish)


@pytest.mark.parametrize("subject", EXCLUSIVE)
def test_a_subject_has_exactly_its_speakers(subject: str) -> None:
    assert {role.name for role in ROLES if may_publish(role, subject)} == EXCLUSIVE[subject]


def test_each_user_has_its_own_inbox_and_no_other() -> None:
    for role in ROLES:
        inboxes = {pattern for pattern in (*role.publish, *role.subscribe) if pattern.startswith("_INBOX")}
        assert inboxes == {f"_INBOX.{role.name}.>"}


def test_nobody_hears_or_says_everything() -> None:
    for role in ROLES:
        assert not {">", "$JS.>", "_INBOX.>", "*"} & {*role.publish, *role.subscribe}


def overlap(one: str, two: str) -> bool:
    """Tell whether some subject falls under both patterns."""
    left, right = one.split("."), two.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def test_a_consumer_cannot_be_made_where_its_maker_can_write() -> None:
    kept = {spec.name: spec.subjects for spec in STREAMS}
    for role in ROLES:
        if role.name in ("admin", "risk", "execution"):
            continue  # These three are trusted with what a forged frame could gain.
        for name, patterns in kept.items():
            can_consume = may_publish(role, f"$JS.API.CONSUMER.CREATE.{name}.any")
            writes = [own for own in role.publish for pattern in patterns if overlap(own, pattern)]
            # The server itself refuses to repeat frames of ORDERS within `ord.>`.
            own_orders = {f"ord.intent.{user}.>" for user in ("cascade", "maker")}
            assert not (can_consume and set(writes) - own_orders), (role.name, name, writes)


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b"])
def test_a_strategy_cannot_widen_its_rights_by_its_name(name: str) -> None:
    with pytest.raises(InputError):
        roles((StrategyUser(service="rebalancer", strategy=name),))
    with pytest.raises(InputError):
        roles((StrategyUser(service=name, strategy="cascade"),))
