"""An HTTP server on loopback that answers as a script says: late, wrong, cut short, or well."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Seen(msgspec.Struct, frozen=True):
    """One request that came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


def reply(body: object = None, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with JSON, or with the very bytes given."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=data, status=status, headers=headers, content_type="application/json"
        )

    return answer


def refuse(
    code: int, reason: str = "", message: str = "scripted", retry_after: int | None = None
) -> Answer:
    """Answer with a Status."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return reply(status, code, headers)


def stream(*chunks: bytes | float | None, abort: bool = False) -> Answer:
    """Answer piece by piece; a number is a pause in seconds, None is silence until the client goes.

    Args:
        chunks: What to write.
        abort: Cut the connection at the end instead of finishing the answer.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for chunk in chunks:
            if chunk is None:
                await asyncio.Event().wait()
            elif isinstance(chunk, bytes):
                await response.write(chunk)
            else:
                await asyncio.sleep(chunk)
        if abort and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def cut() -> Answer:
    """No answer at all: the connection is reset."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    return answer


def a_list(*items: dict[str, Any], version: str = "10", token: str = "") -> Answer:
    """Answer with a page of a list."""
    metadata = {"resourceVersion": version, "continue": token}
    return reply({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def event(kind: str, obj: dict[str, Any]) -> bytes:
    """One watch line."""
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class ScriptedServer:
    """Answers each request with the next row of its script; use as `async with`.

    What comes after the end of the script is answered with 500 and kept in `beyond`. Requests that
    have a script apart are not kept.

    Args:
        tls: Serve HTTPS with this.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.seen: list[Seen] = []
        self.beyond: list[Seen] = []
        self.port = 0
        self._script: deque[Answer] = deque()
        self._apart: dict[str, deque[Answer]] = {}
        self._runner: web.AppRunner | None = None

    def script(self, *answers: Answer) -> None:
        """Add rows to the script."""
        self._script.extend(answers)

    def script_apart(self, path: str, *answers: Answer) -> None:
        """Answer requests for this path by a script of its own, whose last row stays in force."""
        self._apart[path] = deque(answers)

    @property
    def finished(self) -> bool:
        """Whether the whole script was used."""
        return not self._script

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cut all connections and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method,
            request.path,
            dict(request.query),
            {name: ", ".join(request.headers.getall(name)) for name in request.headers},
            await request.read(),
        )
        if apart := self._apart.get(request.path):
            return await (apart.popleft() if len(apart) > 1 else apart[0])(request)
        self.seen.append(seen)
        if not self._script:
            self.beyond.append(seen)
            return await refuse(500, "ScriptEnded")(request)
        return await self._script.popleft()(request)
