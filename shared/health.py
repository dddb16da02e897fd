"""`/metrics`, `/healthz` and `/readyz` of one process, on its own port.

In: HTTP GET. Out: Prometheus text, or a small JSON with the reason. Never: a secret, a blocking scrape.
"""

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Health(msgspec.Struct, frozen=True):
    """Tell how a process does; `detail` is a short sentence for people."""

    service: str
    healthy: bool
    ready: bool
    detail: str


class HealthServer:
    """Serve one process's health; `port` 0 takes a free one, `bound_port` tells which."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, read: Callable[[], Health]) -> None:
        self._host, self._port = host, port
        self._registry, self._read = registry, read
        self._runner: web.AppRunner | None = None
        self.bound_port = 0

    async def start(self, *, fall_back: bool = False) -> None:
        """Bind the port and serve; when it is taken, take a free one (`fall_back`) or raise OSError."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            if not fall_back:
                raise
            await web.TCPSite(self._runner, self._host, 0).start()
        self.bound_port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        health = self._read()
        return _answer(health, ok=health.healthy)

    async def _readyz(self, _: web.Request) -> web.Response:
        health = self._read()
        return _answer(health, ok=health.ready)


def _answer(health: Health, *, ok: bool) -> web.Response:
    return web.Response(body=msgspec.json.encode(health), status=200 if ok else 503, content_type="application/json")
