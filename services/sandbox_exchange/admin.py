"""The admin page of a venue: its truth, its switches, its markets. On loopback, on a port of its own.

In: JSON requests from this machine. Out: the ledger, and changes that no trading key can make.
Never: an answer to a page of somebody else's in a browser: the Host must be loopback, and a change must be JSON.

GET  /admin/health /admin/ledger /admin/requests /admin/sockets /admin/faults /admin/state, /metrics
POST /admin/faults /admin/markets/SYMBOL /admin/accounts /admin/transfer /admin/orders /admin/state /admin/sockets/kill
DELETE /admin/faults[/ID]
"""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from services.sandbox_exchange import admin_actions as actions
from services.sandbox_exchange.config import is_loopback
from services.sandbox_exchange.core.faults import Fault
from services.sandbox_exchange.core.model import Refusal
from services.sandbox_exchange.keeper import StateKeeper
from services.sandbox_exchange.state import Persisted, SavedState, decode_state, state_in
from services.sandbox_exchange.telemetry import Telemetry
from services.sandbox_exchange.wire.context import Venue
from services.sandbox_exchange.wire.fault_places import check_place
from services.sandbox_exchange.wire.socket import kill_sockets
from shared.errors import InputError

STATE_BYTES_MAX = 1 << 30
JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Killed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for sockets to be cut: those of one path (`public`, `user`, …), or all."""

    path: str | None = None


class StateAction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ask for the state file to be written now, or for what it says to be the truth again."""

    action: actions.StateVerb


def application(
    venue: Venue, telemetry: Telemetry, persisted: Persisted, keeper: StateKeeper | None
) -> web.Application:
    """Return the admin's site; `keeper` is None where no state file is configured."""
    app = web.Application(client_max_size=STATE_BYTES_MAX, middlewares=[_guard])
    page = _Page(venue, telemetry, persisted, keeper)
    app.router.add_routes(
        [
            web.get("/metrics", page.metrics),
            web.get("/healthz", page.health),
            web.get("/readyz", page.health),
            web.get("/admin/health", page.health),
            web.get("/admin/ledger", page.ledger),
            web.get("/admin/requests", page.requests),
            web.get("/admin/sockets", page.sockets),
            web.post("/admin/sockets/kill", page.kill),
            web.get("/admin/faults", page.faults),
            web.post("/admin/faults", page.arm),
            web.delete("/admin/faults", page.disarm),
            web.delete("/admin/faults/{number}", page.disarm),
            web.post("/admin/markets/{symbol}", page.market),
            web.post("/admin/accounts", page.account),
            web.post("/admin/transfer", page.transfer),
            web.post("/admin/orders", page.orders),
            web.get("/admin/state", page.state),
            web.put("/admin/state", page.put_state),
            web.post("/admin/state", page.keep_state),
        ]
    )
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    host = (request.host or "").rsplit(":", 1)[0].strip("[]")
    if not is_loopback(host):
        return _error(403, f"host {host!r} is not loopback: ask 127.0.0.1")
    if request.method == "POST" and request.content_type != JSON:
        return _error(415, f"Content-Type must be {JSON}, got {request.content_type}")
    try:
        return await handler(request)
    except msgspec.MsgspecError as error:
        return _error(400, str(error))
    except (InputError, ValueError) as error:
        return _error(400, str(error))
    except Refusal as error:
        return _error(409, str(error))
    except web.HTTPException as error:
        return _error(error.status, f"{request.method} {request.path}: {error.reason}")


class _Page:
    def __init__(self, venue: Venue, telemetry: Telemetry, persisted: Persisted, keeper: StateKeeper | None) -> None:
        self._venue, self._telemetry, self._persisted, self._keeper = venue, telemetry, persisted, keeper

    async def metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._telemetry.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(self, _: web.Request) -> web.Response:
        venue = self._venue
        return _json(
            {
                "service": "sandbox_exchange",
                "healthy": True,
                "ready": True,
                "detail": "running",
                "venue": venue.name,
                "time_ns": venue.now_ns(),
                "elapsed_s": venue.elapsed_s,
                "symbols": {symbol: market.status for symbol, market in venue.exchange.markets.items()},
                "open_sockets": len(venue.sockets),
                "counts": self._telemetry.counts(),
            }
        )

    async def ledger(self, _: web.Request) -> web.Response:
        return web.Response(body=self._venue.exchange.ledger(), content_type=JSON)

    async def requests(self, request: web.Request) -> web.Response:
        since_ns = _number(request, "since_ns")
        return _json([one for one in self._venue.requests if one.time_ns >= since_ns])

    async def sockets(self, _: web.Request) -> web.Response:
        return _json([{"path": one.path, "age_s": one.age_s} for one in self._venue.sockets])

    async def kill(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=Killed)
        return _json({"killed": kill_sockets(self._venue, wanted.path)})

    async def faults(self, _: web.Request) -> web.Response:
        faults = self._venue.faults
        armed = {str(number): fault for number, fault in faults.armed.items()}
        return _json({"armed": armed, "fired": faults.fired})

    async def arm(self, request: web.Request) -> web.Response:
        found = msgspec.json.decode(await request.read(), type=Fault | list[Fault])
        wanted = found if isinstance(found, list) else [found]
        for one in wanted:
            check_place(one, self._venue.places, self._venue.exchange.markets)
        return _json({"ids": [self._venue.faults.arm(actions.from_now(one, self._venue.elapsed_s)) for one in wanted]})

    async def disarm(self, request: web.Request) -> web.Response:
        text = request.match_info.get("number")
        if text is not None and not text.isdecimal():
            raise InputError(f"{text!r} is no fault's id: GET /admin/faults tells them")
        self._venue.faults.disarm(None if text is None else int(text))
        if text is None:
            self._venue.limits.pardon()
        return _json({"armed": len(self._venue.faults.armed)})

    async def market(self, request: web.Request) -> web.Response:
        change = msgspec.json.decode(await request.read(), type=actions.MarketChange)
        return await self._kept(actions.change_market(self._venue, request.match_info["symbol"].upper(), change))

    async def account(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=actions.NewAccount)
        return await self._kept(actions.open_account(self._venue, wanted))

    async def transfer(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=actions.Transfer)
        return await self._kept(actions.transfer(self._venue, wanted))

    async def orders(self, request: web.Request) -> web.Response:
        found = msgspec.json.decode(await request.read(), type=actions.NewOrder | list[actions.NewOrder])
        return await self._kept(actions.place(self._venue, found if isinstance(found, list) else [found]))

    async def state(self, _: web.Request) -> web.Response:
        return web.Response(body=self._persisted.encode(), content_type="application/octet-stream")

    async def put_state(self, request: web.Request) -> web.Response:
        saved = decode_state(await request.read(), self._venue.name, "the request's body")
        await self._return_to(saved)
        return await self._kept({"restored": True})

    async def keep_state(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=StateAction)
        if self._keeper is None:
            raise InputError("no state file is configured: start with --state FILE, or GET and PUT /admin/state")
        if wanted.action is actions.StateVerb.RESTORE:
            saved = state_in(await self._keeper.read(), self._venue.name, f"state file {self._keeper.path}")
            await self._return_to(saved)
        return await self._kept({"file": str(self._keeper.path)})

    async def _kept(self, answer: object) -> web.Response:
        """Answer when what was done is on the disk."""
        if self._keeper is not None:
            await self._keeper.save()
        return _json(answer)

    async def _return_to(self, saved: SavedState) -> None:
        await self._persisted.return_to(saved)
        kill_sockets(self._venue)  # their clients and feeds begin anew, at a book that has gone back


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=JSON)


def _error(status: int, text: str) -> web.Response:
    return _json({"error": text}, status)


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0")
    if not text.isdecimal():
        raise InputError(f"{name} must be a whole number, got {text!r}")
    return int(text)
