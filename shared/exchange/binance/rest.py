"""Binance's REST interface: ccxt signs and sends, the answers are read here.

In: ccxt's names of endpoints and their parameters. Out: typed answers, or one of our errors. Never: an outcome taken
from ccxt's word for it, a write repeated (but after a definite refusal for our clock), a secret in an error.
"""

import asyncio
import importlib
from collections.abc import Callable, Mapping
from random import Random
from types import ModuleType
from typing import NoReturn, Protocol

import aiohttp
import msgspec

from shared.errors import UnavailableError
from shared.exchange.binance.codes import CLOCK, CODES
from shared.exchange.binance.endpoints import BAN_S, PAUSE_S, limits, rest_url
from shared.exchange.live.clock import VenueClock
from shared.exchange.live.config import WireConfig
from shared.exchange.live.outcome import Answer, Outcome, is_operating, judge_answer, judge_exception, safe_text
from shared.exchange.live.retry import retry_read
from shared.exchange.live.session import venue_session
from shared.exchange.port import RefusedQuestionError

RECV_WINDOW_MS = 5_000
BANNED = 418
PAUSE_STATUSES = (BANNED, 429)
Params = Mapping[str, str | int]


class AnswerError(Exception):
    """Carry an HTTP answer that is no success past ccxt, which would judge it by its own tables."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(safe_text(f"{answer.status} {answer.code} {answer.message}"))
        self.answer = answer


class ReadRefusedError(RefusedQuestionError):
    """Report a question that the venue definitely refuses; asking again does not help."""

    def __init__(self, answer: Answer) -> None:
        detail = f"binance refuses: {safe_text(f'{answer.code} {answer.message}')}"
        super().__init__(detail, judge_answer(answer, CODES).code)
        self.code = answer.code


class CcxtClient(Protocol):
    """Be the part of ccxt's client that is used here."""

    on_rest_response: Callable[..., str]
    handle_errors: Callable[..., None]
    nonce: Callable[[], int]
    number: type
    urls: dict[str, object]

    async def close(self) -> None:
        """Let go of connections."""
        ...


class ServerTime(msgspec.Struct, rename="camel"):
    """Tell the venue's time."""

    server_time: int


class BinanceRest:
    """Ask and tell Binance. One instance has one session; `start` opens it, `close` closes it."""

    def __init__(self, config: WireConfig, *, random: Random | None = None) -> None:
        self.config, self.random = config, random or Random()
        self.limits = limits(config)
        self.clock = VenueClock(self._time_ms)
        self.session: aiohttp.ClientSession | None = None
        self._client: CcxtClient | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> aiohttp.ClientSession:
        """Open the session and measure the venue's clock. Raises UnavailableError when the venue does not answer."""
        async with self._starting:
            if self.session is None or self._client is None:
                # ccxt's modules take a second to import: the loop has other things to do.
                ccxt = await asyncio.to_thread(importlib.import_module, "ccxt.async_support")
                self.session = venue_session(self.config.connect_timeout_s)
                self._client = self._make(ccxt, self.session)
            if not self.clock.is_measured:
                await self.clock.measure()
            if self._keeping is None:
                keeping = self.clock.keep(self.config.clock_interval_s)
                self._keeping = asyncio.create_task(keeping, name="binance clock")
            return self.session

    async def close(self) -> None:
        """Let go of every connection; closing twice is no error."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait([keeping])
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    async def read[T](self, endpoint: str, params: Params, kind: type[T], *, weight: float) -> T:
        """Ask until there is an answer. Raises ReadRefusedError for a definite no, UnavailableError for silence."""

        async def attempt() -> T | Answer:
            await self.limits.read(weight)
            try:
                return await self._call(endpoint, params, kind)
            except AnswerError as error:
                verdict = judge_answer(error.answer, CODES)
                if error.answer.code == CLOCK:
                    await self.clock.measure()
                if verdict.outcome is Outcome.REJECTED:
                    return error.answer
                raise UnavailableError(f"binance does not answer {endpoint}: {verdict.detail}") from error
            except Exception as error:
                if not is_operating(error):
                    raise
                raise UnavailableError(
                    f"binance does not answer {endpoint}: {judge_exception(error).detail}"
                ) from error

        answer = await retry_read(attempt, attempts_max=self.config.read_attempts_max, random=self.random)
        if isinstance(answer, Answer):
            raise ReadRefusedError(answer)
        return answer

    async def order[T](self, endpoint: str, params: Params, kind: type[T]) -> T:
        """Send an order once. Raises AnswerError for the venue's refusals, else what the failure proves."""
        return await self._write(endpoint, params, kind, is_cancel=False)

    async def cancel[T](self, endpoint: str, params: Params, kind: type[T]) -> T:
        """Send a cancel once (aiohttp may send it twice). Raises as `order` does."""
        return await self._write(endpoint, params, kind, is_cancel=True)

    async def _write[T](self, endpoint: str, params: Params, kind: type[T], *, is_cancel: bool) -> T:
        for is_last in (False, True):
            await (self.limits.cancel() if is_cancel else self.limits.order())
            try:
                return await self._call(endpoint, params, kind)
            except AnswerError as error:
                if is_last or error.answer.code != CLOCK:
                    raise
                # The venue looked at nothing but the time: the same request may be sent with a better one.
                await self.clock.measure()
            except Exception as error:
                if not is_operating(error):
                    raise
                raise judge_exception(error, is_idempotent=is_cancel).error() from error
        raise AssertionError("the last attempt returns or raises")

    async def _call[T](self, endpoint: str, params: Params, kind: type[T]) -> T:
        if self._client is None:
            raise UnavailableError("binance is not connected: open it first")
        async with asyncio.timeout(self.config.request_timeout_s):
            answer = await getattr(self._client, endpoint)(dict(params))
        return msgspec.convert(answer, kind, strict=False)

    async def _time_ms(self) -> int:
        await self.limits.read(1)
        try:
            return (await self._call("publicGetTime", {}, ServerTime)).server_time
        except AnswerError as error:
            raise UnavailableError(f"binance does not tell its time: {error}") from error
        except Exception as error:
            if not is_operating(error):
                raise
            raise UnavailableError(f"binance does not tell its time: {judge_exception(error).detail}") from error

    def _make(self, ccxt: ModuleType, session: aiohttp.ClientSession) -> CcxtClient:
        client: CcxtClient = ccxt.binance(
            {
                "apiKey": self.config.api_key,
                "secret": self.config.secret,
                "session": session,
                "enableRateLimit": False,  # the buckets here give credit for idle time, and let cancels first
                "timeout": int(self.config.request_timeout_s * 1000),
                "options": {"fetchCurrencies": False, "recvWindow": RECV_WINDOW_MS, "adjustForTimeDifference": False},
            }
        )
        client.number = str
        client.nonce = self.clock.now_ms
        base = rest_url(self.config)
        client.urls["api"] = {
            "public": f"{base}/api/v3", "private": f"{base}/api/v3", "v1": f"{base}/api/v1", "sapi": f"{base}/sapi/v1"
        }  # fmt: skip
        client.on_rest_response = self._on_response
        client.handle_errors = _nothing
        return client

    def _on_response(self, status: int, *call: object) -> str:
        # ccxt hands over: reason, address, method, headers, body, and what was sent.
        headers, body = call[3], str(call[4])
        if 200 <= status < 300 and body[:1] in ("{", "["):
            return body
        answer = _answer(status, headers if isinstance(headers, Mapping) else {}, body)
        if status in PAUSE_STATUSES:
            self.limits.pause(answer.retry_after_s or (BAN_S if status == BANNED else PAUSE_S))
        raise AnswerError(answer)


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str = ""


def _answer(status: int, headers: Mapping[str, str], body: str) -> Answer:
    asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    retry_after_s = float(asked) if asked.isdigit() else None
    try:
        parsed = msgspec.json.decode(body, type=_ErrorBody, strict=False)
    except msgspec.DecodeError:
        return Answer(status, None, body[:120], retry_after_s)
    return Answer(status, parsed.code, parsed.msg, retry_after_s)


def _nothing(*_: object) -> None:
    return None


def raise_verdict(error: AnswerError) -> NoReturn:
    """Raise what a refused write proves."""
    raise judge_answer(error.answer, CODES).error() from error
