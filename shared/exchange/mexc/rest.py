"""MEXC's REST interface: signed by ccxt, paced, and honest about what an answer proves.

In: an endpoint and its parameters. Out: a typed answer, or the error that says what is known.
Never: a write sent twice, except after a refusal that proves that the first was not looked at; a page of HTML or `{}`
taken for an acknowledgement; a request while the venue has asked us to be silent. ccxt is imported when one is made.
"""

import asyncio
import importlib
from collections.abc import Mapping
from random import Random

import aiohttp
import msgspec
import yarl

from shared.errors import CascadeError, UnavailableError
from shared.exchange.live.clock import VenueClock
from shared.exchange.live.config import WireConfig
from shared.exchange.live.limits import PriorityBucket, VenueLimits
from shared.exchange.live.outcome import Answer, Outcome, is_operating, judge_answer, judge_exception, safe_text
from shared.exchange.live.retry import retry_read
from shared.exchange.live.session import venue_session
from shared.exchange.mexc.shapes import Refusal, ServerTime
from shared.exchange.mexc.words import (
    BURST,
    CLOCK_CODES,
    CODES,
    ORDER_NOT_FOUND,
    ORDERS_PER_S,
    PAUSES_S,
    REQUESTS_PER_S,
    RESERVE,
)

RECV_WINDOW_MS = 5_000
OK = 200
# Each endpoint takes 500 in ten seconds, by weight; others may ask for the account, too.
WEIGHT_PER_10_S, WEIGHT_BURST = 450.0, 150.0
WEIGHTS = {
    "exchangeInfo": 25, "depth": 3, "trades": 5, "account": 10, "myTrades": 10, "allOrders": 10, "order": 2,
    "openOrders": 3,
}  # fmt: skip
Params = Mapping[str, str | int]


class NoSuchOrderError(CascadeError):
    """Report that MEXC does not show an order; right after its creation that proves nothing."""


class _Refused(Exception):  # noqa: N818 - an answer, judged by whoever asked
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class MexcRest:
    """Ask MEXC. Make it inside the event loop that uses it; `close` lets go of the connections."""

    def __init__(self, config: WireConfig, *, random: Random | None = None) -> None:
        self.config, self._random = config, random or Random()
        self.session = venue_session(config.connect_timeout_s)
        self.limits = VenueLimits(
            PriorityBucket(REQUESTS_PER_S, burst=BURST, reserve=RESERVE),
            PriorityBucket(ORDERS_PER_S, burst=BURST),
            wait_max_s=config.wait_max_s,
        )
        self._endpoints: dict[str, PriorityBucket] = {}
        self.clock = VenueClock(self._time_ms)
        client = importlib.import_module("ccxt.async_support.mexc").mexc
        self._client = client({"apiKey": config.api_key, "secret": config.secret, "enableRateLimit": False})
        self._client.options["recvWindow"] = RECV_WINDOW_MS
        # ccxt signs with its own clock; ours is measured again and again.
        self._client.nonce = self.clock.now_ms
        if config.rest_url is not None:
            url = config.rest_url.rstrip("/")
            self._client.urls["api"]["spot"] = {"public": url, "private": url}

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        await self.session.close()

    async def read[T](self, path: str, shape: type[T], params: Params | None = None, *, signed: bool = False) -> T:
        """Return the answer to a question, which is asked again where that may help.

        Raises UnavailableError after the last attempt, NoSuchOrderError, and RejectedError for a definite no.
        """
        return await retry_read(
            lambda: self._ask("GET", path, shape, params or {}, signed=signed),
            attempts_max=self.config.read_attempts_max,
            random=self._random,
        )

    async def keep[T](self, method: str, path: str, shape: type[T], params: Params | None = None) -> T:
        """Do what changes no order (listen keys) and may be repeated by the caller; raises as `read` does, at once."""
        return await self._ask(method, path, shape, params or {}, signed=True)

    async def order[T](self, path: str, shape: type[T], params: Params) -> T:
        """Send an order. Raises RejectedError, UnknownOutcomeError, or UnavailableError when it was never looked at."""
        return await self._write("POST", path, shape, params, urgent=False)

    async def cancel[T](self, path: str, shape: type[T], params: Params) -> T:
        """Send a cancel, ahead of orders. Raises as `order` does, and NoSuchOrderError when nothing rests.

        A connection that breaks is asked once more by aiohttp itself, so NoSuchOrderError may follow a success.
        """
        return await self._write("DELETE", path, shape, params, urgent=True)

    async def _time_ms(self) -> int:
        return (await self._ask("GET", "time", ServerTime, {}, signed=False)).server_time

    async def _ask[T](self, method: str, path: str, shape: type[T], params: Params, *, signed: bool) -> T:
        await self._within_weight(path)
        await self.limits.read()
        try:
            return await self._send(method, path, shape, params, signed=signed)
        except _Refused as error:
            answer = error.answer
        except Exception as error:
            if not is_operating(error):
                raise
            raise UnavailableError(safe_text(f"{path} was not answered: {type(error).__name__}: {error}")) from error
        if answer.code in ORDER_NOT_FOUND and answer.status < 500:
            raise NoSuchOrderError(answer.message)
        verdict = judge_answer(answer, CODES)
        if verdict.outcome is Outcome.REJECTED:
            raise verdict.error()
        if answer.code in CLOCK_CODES:
            await self._set_clock()
        raise UnavailableError(f"{path} was not answered: {verdict.detail}")

    async def _within_weight(self, path: str) -> None:
        """Wait until the endpoint's own limit lets one more through; its weights count apart from all others."""
        weight = WEIGHTS.get(path, 1)
        bucket = self._endpoints.setdefault(path, PriorityBucket(WEIGHT_PER_10_S, 10.0, burst=WEIGHT_BURST))
        try:
            async with asyncio.timeout(self.config.wait_max_s):
                await bucket.take(weight)
        except TimeoutError:
            raise UnavailableError(f"{path} has no turn within the venue's limits") from None

    async def _write[T](self, method: str, path: str, shape: type[T], params: Params, *, urgent: bool) -> T:
        has_set_clock = False
        while True:
            await (self.limits.cancel() if urgent else self.limits.order())
            try:
                return await self._send(method, path, shape, params, signed=True)
            except _Refused as error:
                answer = error.answer
            except Exception as error:
                if not is_operating(error):
                    raise
                raise judge_exception(error, is_idempotent=urgent).error() from error
            if urgent and answer.code in ORDER_NOT_FOUND and answer.status < 500:
                raise NoSuchOrderError(answer.message)
            verdict = judge_answer(answer, CODES)
            if answer.code not in CLOCK_CODES or verdict.outcome is not Outcome.NOT_ASKED or has_set_clock:
                raise verdict.error()
            # The venue looked at the time and no further: the same order under the same id, on the right time.
            has_set_clock = True
            await self._set_clock()

    async def _send[T](self, method: str, path: str, shape: type[T], params: Params, *, signed: bool) -> T:
        config = self.config
        access = "private" if signed else "public"
        request = self._client.sign(path, ["spot", access], method, dict(params))
        timeout = aiohttp.ClientTimeout(total=config.request_timeout_s, sock_connect=config.connect_timeout_s)
        url = yarl.URL(request["url"], encoded=True)
        async with self.session.request(method, url, headers=request["headers"], timeout=timeout) as response:
            status, headers, body = response.status, response.headers, await response.read()
        if status == OK:
            try:
                return msgspec.json.decode(body, type=shape, strict=False)
            except msgspec.MsgspecError:
                # It may be a refusal under a wrong status; else it is an answer that nobody can read.
                raise _Refused(_answer(status, headers, body)) from None
        if status in PAUSES_S:
            self.limits.pause(_retry_after_s(headers) or PAUSES_S[status])
        raise _Refused(_answer(status, headers, body))

    async def _set_clock(self) -> None:
        try:
            async with asyncio.timeout(self.config.request_timeout_s):
                await self.clock.measure()
        except (UnavailableError, TimeoutError):
            # The next refusal asks again.
            return


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    try:
        refusal = msgspec.json.decode(body, type=Refusal, strict=False)
    except msgspec.MsgspecError:
        text = body[:120].decode("utf-8", "replace")
        return Answer(status, None, f"unreadable answer {text!r}", _retry_after_s(headers))
    # Under a success status a refusal proves nothing: a gateway may have written it after the order went through.
    code = refusal.code if status != OK else None
    text = refusal.msg if code is not None else f"{refusal.code} {refusal.msg}"
    return Answer(status, code, text, _retry_after_s(headers))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
