"""The HTTP application: routes, authentication, errors as `Status`, life cycle."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from clarion import __version__
from clarion.apiserver import discovery, openapi, reviews
from clarion.apiserver.admission import ConfigAdmission
from clarion.apiserver.allocations import Allocations, ServiceNetwork
from clarion.apiserver.collector import Collector
from clarion.apiserver.handlers import Handlers
from clarion.apiserver.kindrules import KindRules
from clarion.apiserver.present import Presenter
from clarion.apiserver.registry import Registry
from clarion.apiserver.requests import Form, read_accept
from clarion.apiserver.status import (
    ApiError,
    Json,
    bad_request,
    internal,
    method_not_allowed,
    no_such_path,
    too_large,
    unauthorized,
)
from clarion.apiserver.store import Store
from clarion.apiserver.upkeep import Upkeep, make_first_objects
from clarion.apiserver.watchcache import WatchCache
from clarion.apiserver.watching import Watching
from clarion.apiserver.wire import encode
from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.decide.snapshot import Options

_log = logging.getLogger(__name__)

DEFAULT_SERVICE_NETWORK = "10.96.0.0/16,fd00:10:96::/112"
_AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# Reachable without a token, as in a cluster: they tell nothing but whether the server works.
_OPEN_PATHS = ("/healthz", "/livez", "/readyz")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServerSettings(msgspec.Struct, frozen=True):
    """What a server is made of.

    Attributes:
        token: Bearer token that every request must carry; empty: none is asked (loopback only).
        compact_seconds: How often history is forgotten; it is kept for at least as long.
    """

    data_dir: Path
    service_network: str = DEFAULT_SERVICE_NETWORK
    token: str = ""
    compact_seconds: float = limits.API_COMPACT_SECONDS
    bookmark_seconds: float = limits.API_BOOKMARK_SECONDS
    options: Options = Options()


class ApiServer:
    """The parts of one server, put together."""

    def __init__(self, settings: ServerSettings, clock: Clock, entropy: Entropy) -> None:
        self.settings = settings
        self.store = Store(settings.data_dir, clock)
        self._watch_cache = WatchCache()
        self._allocations = Allocations(ServiceNetwork.parse(settings.service_network), entropy)
        self._rules = KindRules(self._allocations)
        admission = ConfigAdmission(self.store, settings.options)
        self.registry = Registry(self.store, self._rules, admission, clock, entropy)
        presenter = Presenter(clock)
        watching = Watching(
            self.store, self._watch_cache, presenter, clock, settings.bookmark_seconds
        )
        self.handlers = Handlers(self.store, self.registry, watching, presenter)
        self._collector = Collector(self.store, self.registry)
        self._upkeep = Upkeep(self.store, self.registry, clock)
        self._broken = ""

    async def run(self, _app: web.Application) -> AsyncIterator[None]:
        """Open the store and keep the background work going while the application runs."""
        await self.store.open()
        self.store.on_stage(self._allocations)
        self.store.on_commit(self._watch_cache.publish)
        self._collector.start()
        await make_first_objects(self.store, self.registry, self._rules)
        tasks = [
            asyncio.create_task(self._collector.run(), name="collector"),
            asyncio.create_task(self._upkeep.run(self.settings.compact_seconds), name="upkeep"),
        ]
        for task in tasks:
            task.add_done_callback(self._ended)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Background work never ends by itself; if it does, /readyz tells."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)
            self._broken = task.get_name()

    async def end_watches(self, _app: web.Application) -> None:
        """Let watchers go, so that shutting down need not wait for them."""
        self._watch_cache.close()

    # Routes that are not resources.

    async def health(self, request: web.Request) -> web.Response:
        """Whether the store takes writes."""
        broken = self._broken if self.store.healthy else "store"
        if request.path != "/livez" and broken:
            return web.Response(status=500, text=f"{broken}: failed\n")
        return web.Response(text="ok")

    async def resource(self, request: web.Request) -> web.StreamResponse:
        """Everything below /api and /apis."""
        answer = _discover(request)
        if answer is not None:
            return answer
        review = await reviews.answer(request)
        if review is not None:
            return _json(review, 201)
        return await self.handlers.handle(request)


def create_app(settings: ServerSettings, clock: Clock, entropy: Entropy) -> web.Application:
    """The application; the store opens when it starts and closes when it ends."""
    server = ApiServer(settings, clock, entropy)
    app = web.Application(
        client_max_size=limits.API_BODY_BYTES,
        middlewares=[_errors, _authentication(settings.token)],
    )
    app.cleanup_ctx.append(server.run)
    app.on_shutdown.append(server.end_watches)
    for path in _OPEN_PATHS:
        app.router.add_get(path, server.health)
    app.router.add_get("/version", _version)
    app.router.add_get("/openapi/v2", _openapi_v2)
    app.router.add_get("/openapi/v3", _openapi_index)
    app.router.add_get("/openapi/v3/{path:.+}", _openapi_document)
    app.router.add_get("/api", server.resource)
    app.router.add_get("/apis", server.resource)
    app.router.add_route("*", "/api/{rest:.*}", server.resource)
    app.router.add_route("*", "/apis/{rest:.*}", server.resource)
    return app


async def _version(_request: web.Request) -> web.Response:
    return _json(discovery.version(__version__))


async def _openapi_v2(request: web.Request) -> web.Response:
    if "protobuf" in request.headers.get("Accept", ""):
        headers = {"Content-Type": openapi.V2_PROTOBUF}
        return web.Response(body=openapi.v2_protobuf(), headers=headers)
    return web.Response(body=openapi.v2_json(), content_type="application/json")


async def _openapi_index(_request: web.Request) -> web.Response:
    return web.Response(body=openapi.index(), content_type="application/json")


async def _openapi_document(request: web.Request) -> web.Response:
    body = openapi.document(request.match_info["path"])
    if body is None:
        raise no_such_path()
    # The address holds a hash of the content, so a client may keep it for good.
    headers = {"Cache-Control": "public, immutable"} if "hash" in request.query else {}
    return web.Response(body=body, content_type="application/json", headers=headers)


def _json(body: Json, status: int = 200, content_type: str = "application/json") -> web.Response:
    response = web.Response(body=encode(body), status=status)
    response.headers["Content-Type"] = content_type
    return response


def _discover(request: web.Request) -> web.Response | None:
    """The answer if the path names no resource; None if it does.

    Raises:
        ApiError: 404 or 405.
    """
    parts = request.path.strip("/").split("/")
    if len(parts) > (2 if parts[0] == "api" else 3):
        return None
    if request.method not in ("GET", "HEAD"):
        raise method_not_allowed(request.method)
    body: Json | None
    match parts:
        case ["api"] | ["apis"]:
            if read_accept(request.headers.get("Accept", "")) is Form.AGGREGATED:
                names = ("",) if parts == ["api"] else tuple(discovery.all_groups())
                return _json(discovery.aggregated(names), content_type=_AGGREGATED_TYPE)
            body = discovery.core_versions() if parts == ["api"] else discovery.group_list()
        case ["api", version]:
            body = discovery.resource_list("", version)
        case ["apis", group]:
            body = discovery.group(group)
        case _:
            body = discovery.resource_list(parts[1], parts[2])
    if body is None:
        raise no_such_path()
    return _json(body)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure becomes a `Status`."""
    try:
        return await handler(request)
    except ApiError as error:
        refusal = error
    except web.HTTPRequestEntityTooLarge:
        refusal = too_large(limits.API_BODY_BYTES)
    except web.HTTPNotFound:
        refusal = no_such_path()
    except web.HTTPMethodNotAllowed:
        refusal = method_not_allowed(request.method)
    except web.HTTPException as error:
        refusal = bad_request(error.reason)
    except RecursionError:
        refusal = bad_request("the body of the request is nested too deeply")
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad request must not end the others
        _log.exception("%s %s failed", request.method, request.path)
        refusal = internal(str(error))
    response = _json(refusal.to_status(), refusal.code)
    if refusal.code == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="clarion"'
    elif refusal.code == 429:
        response.headers["Retry-After"] = str(limits.API_RETRY_AFTER_SECONDS)
    return response


def _authentication(token: str) -> Middleware:
    """Middleware that asks for the token, if there is one."""
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        open_path = request.path in _OPEN_PATHS
        if token and not open_path and not hmac.compare_digest(given, wanted):
            raise unauthorized()
        return await handler(request)

    return check
