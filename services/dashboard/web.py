"""The page over HTTP: HTML once, fragments pushed as server-sent events, two forms that write commands.

In: GET, and POST from this very page. Out: HTML, events, JSON of the state. Never: an answer to a foreign host name or
origin (DNS rebinding, cross-site forms), a framed page, unescaped text from a message.
"""

import asyncio
import contextlib
import getpass
import hmac
import secrets
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from urllib.parse import quote_plus, urlsplit

import msgspec
import uvicorn
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.middleware.base import RequestResponseEndpoint

from services.dashboard.config import DashboardConfig
from services.dashboard.core.page import FRAGMENTS, PageModel, page_model
from services.dashboard.core.rows import HEARTBEAT_LATE_NS
from services.dashboard.service import DashboardService
from shared.clock import wall_ns
from shared.config import Mode
from shared.messages import other_schemas

REASON_CHARACTERS_MAX = 200
# An open page that hears nothing for so long, and for three pushes, says that what it shows is old.
SILENCE_MS_MIN = 5_000
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Server(uvicorn.Server):
    """Leave signals to the lifecycle."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serve the board of one service."""

    def __init__(self, service: DashboardService, config: DashboardConfig, *, mode: str) -> None:
        self._service, self._config, self._mode = service, config, mode
        self._token = secrets.token_urlsafe(24)
        self._clients = 0
        templates = Environment(
            loader=PackageLoader("services.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        self._page = templates.get_template("page.html")
        self._fragments = {name: templates.get_template(f"{name}.html") for name in FRAGMENTS}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def app(self) -> FastAPI:
        """Build the application."""
        app = FastAPI(title="Cascade", docs_url=None, redoc_url=None, openapi_url=None)
        app.middleware("http")(self._guard)
        app.get("/", response_class=HTMLResponse)(self._index)
        app.get("/events")(self._events)
        app.get("/api/state")(self._state)
        app.post("/trading/{verb}")(self._command)
        app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
        return app

    async def start(self) -> None:
        """Bind and serve; raises OSError when the port is taken."""
        config = uvicorn.Config(
            self.app, host=self._config.host, port=self._config.port, log_level="warning", lifespan="off", ws="none"
        )
        self._server = _Server(config)
        self._serving = asyncio.ensure_future(self._serve(self._server))
        while not self._server.started:
            if self._serving.done():
                # No ConfigError: a port that somebody took while the stack ran must not stop the trading.
                where = f"{self._config.host}:{self._config.port}"
                raise OSError(f"cannot listen on {where}: free the port, or set dashboard.port to another one")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Stop serving; open event streams end."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(3):
                    await self._serving

    async def _serve(self, server: uvicorn.Server) -> None:
        with contextlib.suppress(SystemExit):  # uvicorn's way to say that the port is taken
            await server.serve()

    async def _guard(self, request: Request, proceed: RequestResponseEndpoint) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if host not in self._config.allowed_hosts:
            detail = f"this page does not answer to {host[:80]!r}: add the name to dashboard.allowed_hosts"
            return JSONResponse({"detail": detail}, status_code=421)
        if request.method == "POST":
            origin = request.headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
                return JSONResponse({"detail": "forms are taken from this page only"}, status_code=403)
        response: Response = await proceed(request)
        response.headers.update(SECURITY_HEADERS)
        return response

    def _model(self) -> PageModel:
        return page_model(self._service.board, now_ns=wall_ns(), mode=self._mode)

    async def _index(self, notice: str = "") -> HTMLResponse:
        model = self._model()
        rendered = {name: template.render(page=model) for name, template in self._fragments.items()}
        silence_ms = max(SILENCE_MS_MIN, int(3_000 * self._config.push_interval_s))
        html = self._page.render(
            page=model, fragments=rendered, token=self._token, notice=notice[:400], silence_ms=silence_ms
        )
        return HTMLResponse(html)

    async def _state(self) -> Response:
        return Response(msgspec.json.encode(self._model()), media_type="application/json")

    async def _events(self) -> StreamingResponse:
        if self._clients >= self._config.clients_max:
            raise HTTPException(503, "too many open pages")
        return StreamingResponse(self.events(), media_type="text/event-stream")

    async def events(self) -> AsyncGenerator[str]:
        """Yield server-sent events: this run's token, then what changed and a beat, at each push."""
        self._clients += 1
        shown: dict[str, str] = {}
        try:
            yield _event("token", self._token)
            while self._server is None or not self._server.should_exit:
                model = self._model()
                for name, template in self._fragments.items():
                    html = template.render(page=model)
                    if shown.get(name) != html:
                        shown[name] = html
                        yield _event(name, html)
                yield _event("beat", "alive")
                await asyncio.sleep(self._config.push_interval_s)
        finally:
            self._clients -= 1

    async def _command(self, verb: str, token: str = Form(""), reason: str = Form("")) -> Response:
        if verb not in {"halt", "resume"}:
            raise HTTPException(404, f"{verb} is no command of this page")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            # A page from before the dashboard's last start: show the new one, whose buttons work.
            page = await self._index(f"Nothing was done: the page was out of date. Press {verb} again.")
            page.status_code = 403
            return page
        said = reason.strip()[:REASON_CHARACTERS_MAX]
        if not said:
            if verb == "resume":
                return RedirectResponse("/?notice=Resuming+needs+a+reason.", status_code=303)
            said = "halted from the dashboard"
        if verb == "resume" and self._mode == Mode.LIVE and (strangers := self._strangers()):
            said_no = f"Not resumed: {', '.join(strangers)} speak another schema. Start all services from one build."
            return RedirectResponse(f"/?notice={quote_plus(said_no)}", status_code=303)
        reply = await self._service.command("risk", verb, user=f"dashboard:{getpass.getuser()}", reason=said)
        return RedirectResponse(f"/?notice={quote_plus(reply.detail[:300])}", status_code=303)

    def _strangers(self) -> list[str]:
        """Return who lives and speaks another schema."""
        now_ns = wall_ns()
        beats = self._service.board.services.values()
        return other_schemas(beat for beat in beats if now_ns - beat.sent_at_ns <= HEARTBEAT_LATE_NS)


def _event(name: str, html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: {name}\n{lines}\n"
