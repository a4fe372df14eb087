"""A thin client of the Kubernetes API: typed objects in and out, typed errors, no hidden loops.

The client makes one request per call (two when a token has to be renewed) and does not retry: who
called knows whether trying again is safe. Below it aiohttp repeats a GET, PUT or DELETE once when a
kept connection turns out to be closed. Bodies of lists and lines of watches are handed on
as bytes; the reflector decodes them by slices.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote
from weakref import WeakSet

import aiohttp
import msgspec

from clarion import __version__
from clarion.base import limits
from clarion.base.errors import ClarionError, DecodeError
from clarion.edge.credentials import Identity, KubeConfigError
from clarion.edge.faults import describe
from clarion.edge.kubeconfig import KubeConfig
from clarion.model import codec
from clarion.model.kinds import Kind, kind_of
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.proto.kube.wire import Status, StatusCause, decode_page, decode_status

O = TypeVar("O", bound=KubeObject)  # noqa: E741 - an object


# --- errors ---------------------------------------------------------------------------------


class ApiError(ClarionError):
    """The API server refused a request, or (status 0) gave no answer.

    Attributes:
        status: The HTTP status.
        reason: The one-word reason of the Status object, such as `Invalid`.
        causes: What is wrong with which field, where the server says so.
        retry_after: Seconds the server asks to wait; 0 when it does not.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        causes: tuple[StatusCause, ...] = (),
        retry_after: float = 0.0,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy)
        self.status = status
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after


class UnreachableError(ApiError):
    """No answer: connection refused or cut, TLS failed, or too slow."""


class UnauthorizedError(ApiError):
    """401: the server does not know us, even with renewed credentials, or we have none to show."""


class ForbiddenError(ApiError):
    """403: we may not do this."""


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class ConflictError(ApiError):
    """409: somebody else changed the object since it was read."""


class AlreadyExistsError(ApiError):
    """409: an object of this name exists."""


class GoneError(ApiError):
    """410: the version or token asked for is compacted."""


class InvalidError(ApiError):
    """422: the server refuses the content; `causes` says what of it."""


class TooManyRequestsError(ApiError):
    """429: the server asks to wait `retry_after` seconds."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    0: UnreachableError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: TooManyRequestsError,
}


def _cut(response: aiohttp.ClientResponse) -> None:
    """Leave an answer that was not read to its end: TLS would wait for the other side's goodbye."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _error_from(
    status: int, body: bytes, headers: Mapping[str, str], what: str, origin: str
) -> ApiError:
    answer = decode_status(body)
    if answer is None:
        text = body[:200].decode(errors="replace").strip()
        answer = Status(message=f"HTTP {status}: {text}")
    header = headers.get("Retry-After", "")
    wait = max(answer.retry_after, float(header) if header.isdigit() else 0.0)
    kind = _BY_STATUS.get(status, ApiError)
    if answer.reason == "AlreadyExists":
        kind = AlreadyExistsError
    remedy = ""
    if status == 401:
        remedy = f"the credentials in {origin or 'use'} are of another cluster, or have expired"
    return kind(status, answer.reason, f"{what}: {answer.message}", answer.causes, wait, remedy)


# --- requests -------------------------------------------------------------------------------


class PatchType(StrEnum):
    """How a patch is written; the values are its content types."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"  # JSON is YAML


class Selection(msgspec.Struct, frozen=True):
    """Which objects of a kind: one namespace or all, and selectors as kubectl writes them."""

    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        """The selectors as query parameters."""
        named = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in named.items() if value}


EVERYTHING: Final = Selection()


class _Resource(msgspec.Struct, frozen=True):
    name: str
    verbs: tuple[str, ...] = ()


class _Resources(msgspec.Struct, frozen=True):
    """meta/v1 APIResourceList."""

    resources: tuple[_Resource, ...] = ()


class _Stub(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Identified(msgspec.Struct, frozen=True):
    """meta/v1 PartialObjectMetadataList."""

    items: tuple[_Stub, ...] = ()


JSON: Final = "application/json"
_METADATA_ONLY: Final = f"{JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"


def path_of(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a collection, an object, or a part of an object."""
    parts = ["/apis", kind.group, kind.version] if kind.group else ["/api", kind.version]
    if namespace and kind.namespaced:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(kind.plural)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _tcp_socket(info: Any) -> socket.socket:
    """A TCP socket on which a silent peer is noticed: watches may be quiet for minutes."""
    family, kind, protocol, _, _ = info
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, limits.KUBE_KEEPALIVE_IDLE_SECONDS),
        (socket.TCP_KEEPINTVL, limits.KUBE_KEEPALIVE_INTERVAL_SECONDS),
        (socket.TCP_KEEPCNT, limits.KUBE_KEEPALIVE_PROBES),
        (socket.TCP_USER_TIMEOUT, limits.KUBE_DEAD_PEER_SECONDS * 1000),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


class KubeClient:
    """Requests to one API server. Use as `async with`, or call `close`.

    Args:
        config: Where and who.
        timeout: Seconds for one whole request; of a watch, for the beginning of its answer.
    """

    def __init__(self, config: KubeConfig, timeout: float = limits.KUBE_REQUEST_SECONDS) -> None:
        self.config = config
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, sock_connect=limits.KUBE_CONNECT_SECONDS
        )
        self._endless = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.KUBE_CONNECT_SECONDS, sock_read=None
        )
        self._seconds = timeout
        self._session: aiohttp.ClientSession | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._tls: Any = None
        self._tls_made_of: tuple[bytes, ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; watches end."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._end_sockets()

    async def _end_sockets(self) -> None:
        """End connections that the session left before: TLS waits for the goodbye of a peer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.KUBE_CLOSE_SECONDS):
                while lingering := [one for one in self._sockets if one.fileno() >= 0]:
                    for one in lingering:
                        with suppress(OSError):  # not connected, or not any more
                            one.shutdown(socket.SHUT_RDWR)
                    await asyncio.sleep(0)

    def _open_socket(self, info: Any) -> socket.socket:
        sock = _tcp_socket(info)
        self._sockets.add(sock)
        return sock

    # --- typed ---

    async def get(self, of: type[O], key: ObjectKey) -> O:
        """One object."""
        path = path_of(kind_of(of), key.namespace, key.name)
        return self._decode(of, await self.request("GET", path))

    async def list_all(self, of: type[O], selection: Selection = EVERYTHING) -> list[O]:
        """All objects of a selection, read by pages and decoded by slices."""
        found: list[O] = []
        limit, token = limits.KUBE_PAGE_ITEMS, ""
        while True:
            try:
                page = decode_page(await self.list_page(kind_of(of), selection, limit, token))
            except GoneError:
                if not token:
                    raise
                # The version of the first page is compacted by now: all of it in one piece.
                limit, token = 0, ""
                found.clear()
                continue
            except DecodeError as error:
                raise UnreachableError(0, "BadAnswer", error.message) from error
            for start in range(0, len(page.items), limits.KUBE_DECODE_ITEMS):
                slice_ = page.items[start : start + limits.KUBE_DECODE_ITEMS]
                found += [self._decode(of, raw) for raw in slice_]
                await asyncio.sleep(0)
            token = page.token
            if not token:
                return found

    async def create(self, obj: O, *, dry_run: bool = False) -> O:
        """A new object, as the server stored it."""
        path = path_of(kind_of(obj), obj.namespace)
        query = {"dryRun": "All"} if dry_run else {}
        body = await self.request("POST", path, query, codec.encode(obj))
        return self._decode(type(obj), body)

    async def update(self, obj: O, *, subresource: str = "") -> O:
        """Replace an object. What its struct does not hold is lost: patch kinds of Kubernetes."""
        path = path_of(kind_of(obj), obj.namespace, obj.name, subresource)
        body = await self.request("PUT", path, {}, codec.encode(obj))
        return self._decode(type(obj), body)

    async def update_status(self, obj: O) -> O:
        """Replace the status of an object; the rest of it is ignored by the server."""
        return await self.update(obj, subresource="status")

    async def patch(
        self,
        of: type[O],
        key: ObjectKey,
        patch: object,
        *,
        how: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "clarion",
        force: bool = False,
        dry_run: bool = False,
    ) -> O:
        """Change part of an object.

        A `metadata.resourceVersion` in the patch makes it conditional on that version.

        Args:
            of: The struct of the kind.
            key: Which object.
            patch: The patch, as a struct or plain values.
            how: Its form.
            subresource: For example `status`.
            field_manager: Under which name the server records who owns the fields.
            force: Whether an apply takes fields from other managers.
            dry_run: Whether the server shall only say what it would do.
        """
        path = path_of(kind_of(of), key.namespace, key.name, subresource)
        query = {"fieldManager": field_manager}
        if force and how is PatchType.APPLY:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        body = await self.request("PATCH", path, query, codec.encode(patch), how)
        return self._decode(of, body)

    async def delete(
        self, of: type[KubeObject], key: ObjectKey, *, uid: str = "", version: str = ""
    ) -> None:
        """Delete an object, only if it still has this uid and version where they are given."""
        path = path_of(kind_of(of), key.namespace, key.name)
        named = {"uid": uid, "resourceVersion": version}
        conditions = {name: value for name, value in named.items() if value}
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": conditions}
        body = codec.encode(options) if conditions else b""
        await self.request("DELETE", path, {}, body)

    @staticmethod
    def _decode(of: type[O], body: bytes | msgspec.Raw) -> O:
        try:
            return codec.decode(body, of)
        except codec.UndecodableError as error:
            message = f"the server's {of.__name__} cannot be read: {error.message}"
            raise UnreachableError(0, "BadAnswer", message) from error

    async def serves(self, kind: Kind) -> bool:
        """Whether the server serves a kind in full: one that is being removed takes no creates."""
        base = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        try:
            found = codec.decode(await self.request("GET", base), _Resources)
        except NotFoundError:
            return False
        except codec.UndecodableError as error:
            raise UnreachableError(0, "BadAnswer", f"GET {base}: {error.message}") from error
        return any(row.name == kind.plural and "create" in row.verbs for row in found.resources)

    async def uid_of(self, kind: Kind, name: str) -> str:
        """The uid of a cluster-scoped object; empty: it is not there, or is about to be deleted.

        Read by a list of one, so that who may list the kind needs no more rights, and current: the
        answer is never older than the question.
        """
        query = {"fieldSelector": f"metadata.name={name}"}
        body = await self.request("GET", path_of(kind), query, accept=_METADATA_ONLY)
        try:
            found = codec.decode(body, _Identified)
        except codec.UndecodableError as error:
            raise UnreachableError(0, "BadAnswer", f"{path_of(kind)}: {error.message}") from error
        standing = [one.metadata for one in found.items if not one.metadata.deletion_timestamp]
        return standing[0].uid if standing else ""

    # --- bytes ---

    async def list_page(
        self, kind: Kind, selection: Selection, limit: int, token: str = ""
    ) -> bytes:
        """One page of a list, undecoded; a limit of 0 asks for everything."""
        query = selection.query()
        if limit:
            query["limit"] = str(limit)
        if token:
            query["continue"] = token
        return await self.request("GET", path_of(kind, selection.namespace), query)

    @asynccontextmanager
    async def watch(
        self, kind: Kind, selection: Selection, version: str, timeout_seconds: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The byte stream of a watch from a version, with bookmarks, for so long at most.

        Raises:
            ApiError: the server refused; while reading, `UnreachableError` when it was cut.
        """
        query = selection.query() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(timeout_seconds),
        }
        path = path_of(kind, selection.namespace)
        async with self._open("GET", path, query, b"", "", self._endless) as response:
            yield self._chunks(response, f"watch {path}")

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        """The body of the answer to any request.

        Raises:
            ApiError: the server refused, or did not answer.
        """
        what = f"{method} {path}"
        async with self._open(
            method, path, query or {}, body, content_type, self._timeout, accept
        ) as got:
            try:
                return await got.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(what, error) from error

    # --- transport ---

    async def _chunks(self, response: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(what, error) from error

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes,
        content_type: str,
        timeouts: aiohttp.ClientTimeout,
        accept: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and judge the status.

        It is sent once more where that may help: when the credentials were refused, or the server
        not trusted, and a file or plugin holds newer ones.
        """
        what = f"{method} {path}"
        identity = await self._identity(what)
        again = False
        while True:
            session = self._connect(identity, what)
            headers = [("Accept", accept), *self.config.headers]
            if identity.authorization:
                headers.append(("Authorization", identity.authorization))
            if body:
                headers.append(("Content-Type", content_type))
            try:
                async with asyncio.timeout(self._seconds):  # a watch has no other up to its answer
                    response = await session.request(
                        method,
                        self.config.server + path,
                        params=query,
                        data=body or None,
                        headers=headers,
                        timeout=timeouts,
                        allow_redirects=False,
                        proxy=self.config.proxy or None,
                        server_hostname=self.config.server_name or None,
                        ssl=self._tls,
                    )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
                if untrusted and not again and self._trusts_others_now():
                    again = True
                    continue
                raise self._unreachable(what, error) from error
            async with response:
                if response.status < 300:
                    try:
                        yield response
                    finally:
                        _cut(response)
                    return
                error_body = await self._read_some(response, what)
            if response.status == 401 and not again:
                again, refused = True, identity
                identity = await self._identity(what, refused)
                if identity != refused:
                    continue
            raise _error_from(
                response.status, error_body, response.headers, what, self.config.origin
            )

    async def _identity(self, what: str, refused: Identity | None = None) -> Identity:
        """Who we are; a source of credentials may fail now and work later."""
        try:
            return await self.config.credentials.identity(refused)
        except KubeConfigError as error:
            raise _no_credentials(what, error) from error

    def _connect(self, identity: Identity, what: str) -> aiohttp.ClientSession:
        """The session; new certificates need a new TLS context, and connections as they come.

        Connections made with those before end when they are next idle.
        """
        try:
            made_of = (identity.certificate, identity.key, self.config.ca.read())
            if self._tls is None or made_of != self._tls_made_of:
                self._tls = self.config.ssl_context(identity) or True
                self._tls_made_of = made_of
        except KubeConfigError as error:
            raise _no_credentials(what, error) from error
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, socket_factory=self._open_socket, keepalive_timeout=60
                ),
                headers={"User-Agent": f"clarion/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=True,
            )
        return self._session

    def _trusts_others_now(self) -> bool:
        """Whether the authorities' file was replaced since it was last read."""
        return self.config.ca.read(renew=True) != self._tls_made_of[-1]

    async def _read_some(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        """The beginning of an error body; a proxy's page may be of any length."""
        try:
            async with asyncio.timeout(self._seconds):
                body = b""
                while len(body) < limits.KUBE_ERROR_BODY_BYTES:
                    chunk = await response.content.readany()
                    if not chunk:
                        break
                    body += chunk
                return body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(what, error) from error

    def _unreachable(self, what: str, error: BaseException) -> UnreachableError:
        fault = describe(error, self.config)
        return UnreachableError(0, "Unreachable", f"{what}: {fault.words}", remedy=fault.remedy)


def _no_credentials(what: str, error: KubeConfigError) -> UnauthorizedError:
    return UnauthorizedError(401, "NoCredentials", f"{what}: {error.message}", remedy=error.remedy)
