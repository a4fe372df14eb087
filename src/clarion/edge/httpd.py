"""The programs' own HTTP endpoints: health, readiness, metrics, and a snapshot for debugging."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from aiohttp import web

from clarion.edge.listen import cannot_listen, parse_listen
from clarion.edge.metrics import CONTENT_TYPE, Metrics

Check: TypeAlias = Callable[[], Iterable[str]]
"""What is not well, one phrase each; nothing when all is."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

BLANK: Final = "(blanked)"
_SECRET_FIELDS: Final = frozenset(
    {"password", "token", "secretkey", "stringdata", "clientkeydata", "authorization", "privatekey"}
)


def blanked(value: Any) -> Any:
    """The same plain value with every secret replaced, by the names of its fields.

    Values under `data` are secrets too where the object says that it is a Secret. References to
    secrets, such as `passwordSecret`, are names and stay.
    """
    if isinstance(value, Mapping):
        secret = value.get("kind") == "Secret"
        return {
            name: BLANK if item and _is_secret(str(name), secret) else blanked(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [blanked(item) for item in value]
    return value


def _is_secret(name: str, in_secret: bool) -> bool:
    word = name.replace("-", "").replace("_", "").lower()
    return word in _SECRET_FIELDS or (in_secret and word == "data")


class HttpServer:
    """A running server."""

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        self.host = host
        self.port = port

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        await self._runner.cleanup()


async def start_http(
    listen: str,
    *,
    healthy: Check = tuple,
    ready: Check = tuple,
    metrics: Metrics | None = None,
    snapshot: Callable[[], object] | None = None,
    routes: Mapping[str, Handler] | None = None,
) -> HttpServer:
    """Serve `/healthz`, `/readyz`, `/metrics` and `/debug/snapshot`.

    Args:
        listen: `HOST:PORT`; port 0 takes a free one.
        healthy: What is so wrong that the program should be restarted.
        ready: What is still missing.
        metrics: What `/metrics` renders.
        snapshot: What `/debug/snapshot` shows, as anything that msgspec can encode; secrets in it
            are blanked here.
        routes: More paths to GET.

    Raises:
        ClarionError: the address cannot be listened on.
    """
    host, port = parse_listen(listen)
    app = web.Application()
    app.router.add_get("/healthz", _check(healthy))
    app.router.add_get("/readyz", _check(ready))
    if metrics is not None:
        app.router.add_get("/metrics", _metrics(metrics))
    if snapshot is not None:
        app.router.add_get("/debug/snapshot", _snapshot(snapshot))
    for path, handler in (routes or {}).items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host or None, port, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise cannot_listen(listen, error, "--listen-http") from None
    bound = runner.addresses[0]
    return HttpServer(runner, bound[0], bound[1])


def _check(check: Check) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        faults = list(check())
        text = "\n".join(faults) or "ok"
        return web.Response(text=text + "\n", status=503 if faults else 200)

    return answer


def _metrics(metrics: Metrics) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return answer


def _snapshot(snapshot: Callable[[], object]) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        plain = msgspec.to_builtins(snapshot(), enc_hook=str, str_keys=True)
        body = msgspec.json.encode(blanked(plain))
        return web.Response(body=body, content_type="application/json")

    return answer
