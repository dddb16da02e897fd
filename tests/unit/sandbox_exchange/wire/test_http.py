"""Every HTTP fault as a plain client sees it, and whether the request was executed behind it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from services.sandbox_exchange.core.faults import FaultName
from services.sandbox_exchange.wire.context import NO_ANSWER
from services.sandbox_exchange.wire.http import BODY_BYTES_MAX
from tests.unit.sandbox_exchange.wire.rig import running, until

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


async def test_without_faults_a_request_is_executed() -> None:
    async with running() as rig:
        answer = await rig.order()
        assert (answer.status, rig.executed) == (200, 1)
        assert [(one.route, one.status) for one in rig.venue.requests] == [("POST /api/v3/order", 200)]


@pytest.mark.parametrize(
    ("name", "parameter", "status", "executed"),
    [
        (FaultName.HTTP_429, None, 429, 0),
        (FaultName.HTTP_418, 1.0, 418, 0),
        (FaultName.HTTP_403, None, 403, 0),
        (FaultName.HTTP_5XX, None, 500, 0),
        (FaultName.HTTP_5XX, 502.0, 502, 0),
        (FaultName.HTTP_5XX_AFTER, None, 503, 1),
        (FaultName.HTTP_5XX_AFTER, 500.0, 500, 1),
        (FaultName.MAINTENANCE, None, 503, 0),
        (FaultName.HTML_200, None, 200, 1),
        (FaultName.HTML_200, 0.0, 200, 0),
        (FaultName.EMPTY_200, None, 200, 1),
        (FaultName.EMPTY_200, 0.0, 200, 0),
        (FaultName.LATENCY, 0.01, 200, 1),
        (FaultName.FILL_BEFORE_REPLY, 0.01, 200, 1),
    ],
)
async def test_an_answer_is_spoilt_once_and_the_ledger_knows_the_truth(
    name: FaultName, parameter: float | None, status: int, executed: int
) -> None:
    async with running() as rig:
        rig.arm(name, parameter=parameter)
        answer = await rig.order()
        assert (answer.status, rig.executed) == (status, executed)
        assert rig.venue.faults.fired == {name: 1}
        rig.venue.limits.pardon()
        assert (await rig.order()).status == 200
        assert rig.executed == executed + 1


@pytest.mark.parametrize(
    ("name", "executed"),
    [
        (FaultName.RESET_BEFORE, 0),
        (FaultName.RESET_AFTER, 1),
        (FaultName.TIMEOUT_BEFORE, 0),
        (FaultName.TIMEOUT_AFTER, 1),
    ],
)
async def test_no_answer_comes(name: FaultName, executed: int) -> None:
    async with running() as rig:
        rig.arm(name, parameter=0.05)
        with pytest.raises(BROKEN):
            await rig.order()
        assert rig.executed == executed
        assert [one.status for one in rig.venue.requests] == [NO_ANSWER]
        assert (await rig.order()).status == 200


async def test_a_client_that_gives_up_ends_the_wait() -> None:
    async with running() as rig:
        rig.arm(FaultName.TIMEOUT_AFTER, parameter=60)
        with pytest.raises(TimeoutError):
            await rig.order(timeout=aiohttp.ClientTimeout(0.2))
        await until(lambda: rig.venue.requests)
        assert rig.executed == 1


async def test_retry_after_is_told_in_whole_seconds() -> None:
    async with running() as rig:
        rig.arm(FaultName.HTTP_429, parameter=1.2)
        answer = await rig.order()
        assert answer.headers["Retry-After"] == "2"


async def test_a_ban_lasts_until_it_is_pardoned_and_every_request_in_it_is_counted() -> None:
    async with running() as rig:
        rig.arm(FaultName.HTTP_418, parameter=60)
        assert [(await rig.order()).status for _ in range(3)] == [418] * 3
        async with rig.session.get(rig.url + "/api/v3/depth") as answer:
            assert answer.status == 418, "also where no limit is counted"
            assert int(answer.headers["Retry-After"]) > 50
        assert rig.executed == 0
        assert rig.venue.counts["requests_while_banned"] == 3
        rig.venue.limits.pardon()
        assert (await rig.order()).status == 200


async def test_a_fault_keeps_to_its_route_and_its_market() -> None:
    async with running() as rig:
        rig.arm(FaultName.HTTP_5XX, route="POST /api/v3/order", symbol="HUSDT")
        async with rig.session.get(rig.url + "/api/v3/depth?symbol=HUSDT") as answer:
            assert answer.status == 200
        assert (await rig.order(data={"symbol": "BTCUSDT"})).status == 200
        assert (await rig.order(data={"symbol": "HUSDT"})).status == 500
        assert rig.executed == 1, "the market is read from the form, which the handler can read as well"


async def test_an_oversized_body_is_refused_in_the_venue_s_words() -> None:
    async with running() as rig:
        answer = await rig.order(data=b"x" * (BODY_BYTES_MAX + 1))
        assert (answer.status, rig.executed) == (413, 0)
        assert await answer.json() == {"code": -413, "msg": "body too large"}


async def test_an_oversized_body_without_a_length_is_refused_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1024

    async with running() as rig:
        answer = await rig.order(data=endless())
        assert (answer.status, rig.executed) == (413, 0)
        assert await answer.json() == {"code": -413, "msg": "body too large"}


async def test_a_body_that_nobody_reads_is_refused_as_well() -> None:
    async with running() as rig:
        url = rig.url + "/api/v3/depth"
        async with rig.session.get(url, data=b"x" * (BODY_BYTES_MAX + 1)) as answer:
            assert answer.status == 413


async def test_too_many_requests_are_refused_with_retry_after() -> None:
    async with running() as rig:
        answers = [await rig.order() for _ in range(1001)]
        # A window may end while they run; then all of them pass.
        refused = [one for one in answers if one.status == 429]
        assert len(refused) <= 1
        assert all(1 <= int(one.headers["Retry-After"]) <= 10 for one in refused)


async def test_the_venue_s_clock_is_skewed_until_it_is_disarmed() -> None:
    async with running() as rig:
        before = rig.venue.now_ns()
        number = rig.arm(FaultName.CLOCK_SKEW, parameter=3600)
        assert rig.venue.now_ns() - before >= 3600 * 10**9
        rig.venue.faults.disarm(number)
        assert rig.venue.now_ns() - before < 3600 * 10**9
