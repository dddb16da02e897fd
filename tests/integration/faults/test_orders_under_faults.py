"""Orders under every fault of a venue: service, adapter and wire are real, the sandbox's ledger is the truth.

Each row names the switch, where it goes off, and in which states the first order may end; the invariants hold in all.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from services.sandbox_exchange.core.faults import FaultName as F
from shared.messages import OrderState as S
from shared.messages import TradingState
from tests.integration.faults.rig import CANCEL, CREATE, QUERY, VENUES, SandboxRig, sandbox_rig

DONE = {S.FILLED}
NEVER = {S.REJECTED_UNCONFIRMED}
TRADES, HELD = "GET /api/v3/myTrades", "GET /api/v3/account"


class Row(NamedTuple):
    """State a fault, its fields, and how the first order (at market) may end."""

    name: F
    ends: set[S]
    fields: dict[str, object]
    kind: str = "quote"


CREATED = [
    Row(F.HTTP_429, NEVER, {"route": CREATE, "parameter": 1}),
    Row(F.HTTP_418, NEVER, {"route": CREATE, "parameter": 1}),
    Row(F.HTTP_403, NEVER, {"route": CREATE}),
    Row(F.HTTP_5XX, NEVER, {"route": CREATE, "parameter": 500}),
    Row(F.HTTP_5XX, NEVER, {"route": CREATE, "parameter": 504}),
    Row(F.HTTP_5XX_AFTER, DONE, {"route": CREATE, "parameter": 503}),
    Row(F.HTTP_5XX_AFTER, DONE, {"route": CREATE, "parameter": 500}),
    Row(F.TIMEOUT_BEFORE, NEVER, {"route": CREATE}),
    Row(F.TIMEOUT_AFTER, DONE, {"route": CREATE}),
    Row(F.RESET_BEFORE, NEVER, {"route": CREATE}),
    Row(F.RESET_AFTER, DONE, {"route": CREATE}),
    Row(F.HTML_200, DONE, {"route": CREATE}),
    Row(F.HTML_200, NEVER, {"route": CREATE, "parameter": 0}),
    Row(F.EMPTY_200, DONE, {"route": CREATE}),
    Row(F.EMPTY_200, NEVER, {"route": CREATE, "parameter": 0}),
    Row(F.MAINTENANCE, NEVER, {"route": CREATE}),
    Row(F.LATENCY, DONE, {"times": 6, "parameter": 0.2}),
    Row(F.LATENCY, DONE, {"route": CREATE, "parameter": 0.7}),  # longer than we wait: it comes to be while we ask
    Row(F.FILL_BEFORE_REPLY, DONE, {"route": CREATE}),
    Row(F.FILL_BEFORE_REPLY, DONE, {"route": CREATE, "parameter": 0.6}),  # ... and the reply comes too late
    Row(F.PARTIAL_FILL, {S.CANCELED, S.EXPIRED}, {"route": CREATE, "parameter": 0.5}, "bounded"),
    Row(F.PARTIAL_FILL, {S.CANCELED, S.EXPIRED}, {"route": CREATE, "parameter": 0.5}, "quote"),
    Row(F.REPORT_DUPLICATE, DONE, {"times": None}),
    Row(F.REPORT_REORDER, DONE, {"times": 3}),
    Row(F.REPORT_DROP, DONE, {"times": None}),
    Row(F.BALANCE_STALE, DONE, {"times": 1}),
]
ASKED = [
    # What is wrong with a question must never change an order; the create's answer is lost, so that it is asked for.
    Row(F.ORDER_NOT_FOUND, DONE, {"parameter": 0.3, "times": 3}),
    Row(F.HTTP_429, DONE, {"route": QUERY, "parameter": 1}),
    Row(F.HTTP_403, DONE, {"route": QUERY}),
    Row(F.HTTP_5XX, DONE, {"route": QUERY, "times": 2}),
    Row(F.TIMEOUT_BEFORE, DONE, {"route": QUERY}),
    Row(F.RESET_BEFORE, DONE, {"route": QUERY, "times": 2}),
    Row(F.HTML_200, DONE, {"route": QUERY}),
    Row(F.EMPTY_200, DONE, {"route": QUERY}),
    Row(F.HTML_200, DONE, {"route": TRADES, "times": 2}),
    Row(F.EMPTY_200, DONE, {"route": TRADES, "times": 2}),
    Row(F.HTTP_5XX, DONE, {"route": HELD, "times": 2}),
]
CANCELLED = [
    Row(name, {S.CANCELED}, {"route": CANCEL, **fields})
    for name, fields in (
        (F.HTTP_429, {"parameter": 1}), (F.HTTP_403, {}), (F.HTTP_5XX, {}), (F.HTTP_5XX_AFTER, {}),
        (F.TIMEOUT_BEFORE, {}), (F.TIMEOUT_AFTER, {}), (F.RESET_BEFORE, {"times": 2}), (F.RESET_AFTER, {}),
        (F.HTML_200, {}), (F.HTML_200, {"parameter": 0}), (F.EMPTY_200, {}), (F.EMPTY_200, {"parameter": 0}),
    )
]  # fmt: skip
STREAM = [
    Row(F.SOCKET_KILL, DONE, {"times": 2}),
    Row(F.SOCKET_SILENT, DONE, {}),
    Row(F.SOCKET_AGE, DONE, {"parameter": 0.05}),
    Row(F.PONG_MISSING, DONE, {"times": 2}),
    Row(F.SUBSCRIBE_REFUSED, DONE, {}),
    Row(F.SUBSCRIBE_IGNORED, DONE, {}),
    Row(F.LISTEN_KEY_EXPIRED, DONE, {}),
]


def _ids(rows: list[Row]) -> list[str]:
    return [f"{row.name}-{row.fields.get('route', '').__str__().split('/')[-1]}{n}" for n, row in enumerate(rows)]


def rows(table: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=_ids(table))


async def trade_on(rig: SandboxRig, first: int) -> None:
    """Trade as on any day: what went wrong before must not show in it."""
    assert await rig.do(first, "sell") is S.FILLED
    assert await rig.do(first + 1, "limit") is S.ACCEPTED
    rig.hit(first + 1, "0.5")
    assert await rig.cancel(first + 1) is S.CANCELED


@pytest.mark.parametrize("venue", VENUES)
async def test_orders_go_their_way_without_faults(venue: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        for number, kind in enumerate(("quote", "bounded", "fok", "sell"), 1):
            assert await rig.do(number, kind) is S.FILLED
        await trade_on(rig, 5)
        await rig.quiet()
        await rig.check()


@rows(CREATED)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_fault_of_a_create_leaves_one_order_or_none_and_equal_books(
    venue: str, row: Row, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(row.name, **row.fields)
        state = await rig.do(1, row.kind)
        assert state in row.ends
        await rig.until(lambda: rig.faults.fired.get(row.name))
        await rig.quiet()
        assert len(rig.orders_at_venue(1)) == (state not in NEVER)
        assert await rig.do(2, "quote") is S.FILLED
        await trade_on(rig, 3)
        await rig.quiet()
        await rig.check()


@rows(ASKED)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_question_that_fails_is_no_answer(venue: str, row: Row, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.HTML_200, route=CREATE)
        rig.arm(F.REPORT_DROP, times=None)
        rig.arm(row.name, **row.fields)
        assert await rig.do(1, "quote") in row.ends
        await rig.until(lambda: rig.faults.fired.get(row.name))
        await rig.quiet()
        await trade_on(rig, 2)
        await rig.quiet()
        await rig.check()


@rows(CANCELLED)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_fault_of_a_cancel_ends_in_a_cancelled_order(venue: str, row: Row, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "limit") is S.ACCEPTED
        rig.arm(row.name, **row.fields)
        assert await rig.cancel(1) in row.ends
        assert rig.faults.fired.get(row.name)
        await rig.quiet()
        assert await rig.do(2, "quote") is S.FILLED
        await trade_on(rig, 3)
        await rig.quiet()
        await rig.check()


@rows(STREAM)
@pytest.mark.parametrize("venue", VENUES)
async def test_an_account_stream_that_breaks_is_reconciled_before_the_next_order(
    venue: str, row: Row, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "limit") is S.ACCEPTED
        losses = rig.desk.stream_losses
        rig.arm(row.name, **row.fields)
        if row.name in (F.SUBSCRIBE_REFUSED, F.SUBSCRIBE_IGNORED, F.SOCKET_AGE):
            rig.kill_stream()
        rig.hit(1)  # the fill comes when the stream is about to break
        await rig.until(lambda: rig.faults.fired.get(row.name) and rig.desk.stream_losses > losses)
        assert await rig.do(2, "quote") in row.ends
        await rig.quiet()
        assert rig.order(1).state is S.FILLED
        await trade_on(rig, 3)
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_balances_that_stay_wrong_halt(venue: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "quote") is S.FILLED
        rig.arm(F.BALANCE_STALE, times=None)
        await rig.until(lambda: rig.desk.halt_reason is not None)
        assert "balances differ" in (rig.desk.halt_reason or "")
        assert await rig.do(2, "quote") is S.DENIED
        assert len(rig.ledger().orders) == 1


@pytest.mark.parametrize("skew_s", [-20.0, 20.0])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_clock_that_jumps_costs_at_most_an_order_that_was_never_there(
    venue: str, skew_s: float, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.CLOCK_SKEW, times=None, parameter=skew_s)
        state = await rig.do(1, "quote")
        assert state in DONE | NEVER
        assert len(rig.orders_at_venue(1)) == (state is S.FILLED)
        assert await rig.do(2, "quote") is S.FILLED
        # The venue's time goes on from here: a clock that is set back would mix up the order of its own trades.
        await rig.until(lambda: rig.desk.is_reconciled and not rig.differences())
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_an_id_that_the_venue_would_take_twice_is_sent_once(venue: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.DUPLICATE_ID_ACCEPT, times=None)
        rig.arm(F.HTML_200, route=CREATE)
        rig.fault = "after_outcome_before_publish"
        assert await rig.do(1, "quote") is S.FILLED
        for copy in range(1, 4):
            await rig.want(1, "quote", copy=copy)
        await rig.restart()
        assert await rig.do(2, "sell") is S.FILLED
        await rig.quiet()
        await rig.check()
        assert len(rig.orders_at_venue(1)) == 1


@pytest.mark.parametrize("venue", VENUES)
async def test_nothing_is_sent_on_a_market_while_an_outcome_there_is_unknown(venue: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.REPORT_DROP, times=None)
        rig.arm(F.HTML_200, route=CREATE)
        for route in (QUERY, TRADES, "GET /api/v3/openOrders"):
            rig.arm(F.HTTP_5XX, route=route, times=None)
        await rig.want(1, "quote")
        await rig.settled(1, states=(S.UNKNOWN,))
        assert await rig.do(2, "quote") is S.DENIED
        assert "unknown_outcome" in rig.order(2).reason
        assert rig.order(1).state is S.UNKNOWN, "a question that failed is no evidence"
        assert len(rig.ledger().orders) == 1
        await rig.quiet()
        assert rig.order(1).state is S.FILLED
        await trade_on(rig, 3)
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("how", ["expired", "may not trade", "another address"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_that_is_refused_halts_until_a_person_looks(venue: str, how: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "limit") is S.ACCEPTED
        good = rig.spoil_key(how)
        await rig.want(2, "quote")
        await rig.until(lambda: rig.desk.halt_reason is not None)
        assert rig.order(2).state is S.REJECTED
        sent = rig.requests_of(CREATE)
        assert await rig.do(3, "quote") is S.DENIED
        assert rig.requests_of(CREATE) == sent, "nothing may be sent after a refused key"
        rig.restore_key(good)
        await rig.restart()
        assert "refuses the key" in (rig.desk.halt_reason or "")
        assert await rig.do(4, "quote") is S.DENIED
        await rig.until(lambda: rig.desk.is_reconciled)
        await rig.command("reconcile", '{"resolve_incidents":true}')
        await rig.set_state(TradingState.ACTIVE)
        assert await rig.do(5, "quote") is S.FILLED
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("point", ["after_send_before_outcome", "after_outcome_before_publish"])
@pytest.mark.parametrize("kind", ["quote", "bounded", "fok", "sell"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_restart_knows_its_order_in_the_words_of_the_wire(
    venue: str, kind: str, point: str, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        first = 1
        if kind == "sell":
            assert await rig.do(1, "quote") is S.FILLED
            first = 2
        rig.fault = point
        assert await rig.do(first, kind) is S.FILLED
        await rig.quiet()
        await rig.check()
        assert rig.desk.halt_reason is None
