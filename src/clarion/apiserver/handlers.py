"""The verbs of a resource over HTTP: get, list, create, update, patch, delete."""

from collections.abc import Iterable

from aiohttp import web

from clarion.apiserver import patch, protobuf
from clarion.apiserver.present import Presenter
from clarion.apiserver.registry import DeleteOptions, Registry, Result, Target, WriteOptions
from clarion.apiserver.requests import (
    Form,
    Position,
    Writing,
    check_list_options,
    read_delete_options,
    read_flag,
    read_form,
    read_limit,
    read_selection,
    read_target,
    read_version,
    read_write_options,
)
from clarion.apiserver.selectors import Selection
from clarion.apiserver.status import (
    ApiError,
    Json,
    expired,
    method_not_allowed,
    not_found,
    unsupported_media,
    version_not_reached,
)
from clarion.apiserver.store import Entry, Store
from clarion.apiserver.watching import Watching
from clarion.apiserver.wire import decode, decode_object, encode
from clarion.base import limits

JSON_TYPE = "application/json"
_WRITABLE = (JSON_TYPE, "application/yaml", protobuf.MEDIA_TYPE, "")


class Handlers:
    """One instance serves all resources."""

    def __init__(
        self, store: Store, registry: Registry, watching: Watching, presenter: Presenter
    ) -> None:
        self._store = store
        self._registry = registry
        self._watching = watching
        self._presenter = presenter

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request below /api or /apis.

        Raises:
            ApiError: refused.
        """
        target = read_target(request.path)
        match request.method, bool(target.name):
            case "GET", _:
                check_list_options(request.query)
                if read_flag(request.query, "watch"):
                    return await self._watching.handle(request, target)
                return self._get(request, target) if target.name else self._list(request, target)
            case "POST", False:
                return await self._create(request, target)
            case "PUT", True:
                return await self._update(request, target)
            case "PATCH", True:
                return await self._patch(request, target)
            case "DELETE", True:
                return await self._delete(request, target)
            case "DELETE", False if target.resource.plural != "namespaces":
                return await self._delete_collection(request, target)
        raise method_not_allowed(request.method)

    # Reading.

    def _get(self, request: web.Request, target: Target) -> web.Response:
        form = read_form(request.headers.get("Accept", ""), request.query)
        entry = self._store.get(target.key)
        if entry is None:
            raise not_found(target.resource.name, target.name)
        return _warned(target, _answer(self._presenter.one(target, entry.body, form)))

    def _list(self, request: web.Request, target: Target) -> web.Response:
        form = read_form(request.headers.get("Accept", ""), request.query)
        selection = read_selection(target, request.query)
        limit = read_limit(request.query)
        entries, revision, after, remaining = self._collect(request, target, selection, limit)
        metadata: Json = {"resourceVersion": str(revision)}
        if after is not None:
            metadata["continue"] = Position(revision, *after).token()
            if remaining and not selection:
                metadata["remainingItemCount"] = remaining
        return _warned(target, _answer(self._presenter.many(target, entries, metadata, form)))

    def _collect(
        self, request: web.Request, target: Target, selection: Selection, limit: int | None
    ) -> tuple[list[Entry], int, tuple[str, str] | None, int | None]:
        """Selected objects, their revision, and where the list goes on if it does."""
        after, revision = self._position(request)
        namespace = target.namespace or selection.fields.namespace
        found: list[Entry] = []
        while True:
            page = self._store.page(target.resource.id, namespace or None, after, limit, revision)
            revision = page.revision
            found += (
                (entry for entry in page.entries if selection.matches(entry))
                if selection
                else page.entries
            )
            if not page.more:
                return found[:limit], revision, self._rest(found, limit), None
            last = page.entries[-1].key
            after = (last.namespace, last.name)
            if limit is not None and len(found) >= limit:
                exact = len(found) == limit
                rest = after if exact else self._rest(found, limit)
                return found[:limit], revision, rest, page.remaining

    @staticmethod
    def _rest(found: list[Entry], limit: int | None) -> tuple[str, str] | None:
        if limit is None or len(found) <= limit:
            return None
        last = found[limit - 1].key
        return last.namespace, last.name

    def _position(self, request: web.Request) -> tuple[tuple[str, str] | None, int | None]:
        query = request.query
        token = query.get("continue", "")
        if token:
            place = Position.read(token)
            if place.revision < self._store.compacted:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list "
                    "result. You must start a new list without the continue parameter."
                )
            return (place.namespace, place.name), min(place.revision, self._store.revision)
        asked = read_version(query)
        if asked is not None and asked > self._store.revision:
            raise version_not_reached(asked, self._store.revision)
        exact = query.get("resourceVersionMatch") == "Exact"
        return None, asked if exact else None

    # Writing.

    async def _create(self, request: web.Request, target: Target) -> web.Response:
        if target.resource.namespaced and not target.namespace:
            raise method_not_allowed("POST")
        options = _write_options(request, "Create")
        body = await read_body(request)
        result = await self._registry.create(target, body, options)
        return self._written(request, target, result)

    async def _update(self, request: web.Request, target: Target) -> web.Response:
        options = _write_options(request, "Update")
        body = await read_body(request)
        result = await self._registry.update(target, body, options)
        return self._written(request, target, result)

    async def _patch(self, request: web.Request, target: Target) -> web.Response:
        content = request.content_type
        options = _write_options(request, "Apply" if content == patch.APPLY else "Patch")
        raw = await request.read()
        if content == patch.APPLY:
            configuration = patch.read_configuration(raw)
            force = read_flag(request.query, "force")
            result = await self._registry.apply(target, configuration, options, force=force)
        else:
            change = patch.read_patch(content, raw, target.kind)
            result = await self._registry.patch(target, change, options)
        return self._written(request, target, result)

    def _written(self, request: web.Request, target: Target, result: Result) -> web.Response:
        form = read_form(request.headers.get("Accept", ""), request.query)
        response = _answer(
            self._presenter.one(target, result.body, form), 201 if result.created else 200
        )
        for warning in result.warnings[: limits.API_WARNINGS]:
            response.headers.add("Warning", f'299 - "{_quoted(warning)}"')
        return response

    async def _delete(self, request: web.Request, target: Target) -> web.Response:
        options = read_delete_options(request.query, await _read_options(request))
        result = await self._registry.delete(target, options)
        if not result.gone:
            return self._written(request, target, result)
        meta = decode(result.body)["metadata"]
        details: Json = {"name": meta["name"], "kind": target.resource.plural, "uid": meta["uid"]}
        if target.resource.group:
            details["group"] = target.resource.group
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details,
        }
        return _answer(encode(status))

    async def _delete_collection(self, request: web.Request, target: Target) -> web.Response:
        options = read_delete_options(request.query, await _read_options(request))
        selection = read_selection(target, request.query)
        entries, revision, _, _ = self._collect(request, target, selection, None)
        for entry in entries:
            await self._delete_one(target, entry, options)
        metadata = {"resourceVersion": str(revision)}
        return _answer(self._presenter.many(target, entries, metadata, Form.OBJECT))

    async def _delete_one(self, target: Target, entry: Entry, options: DeleteOptions) -> None:
        one = Target(target.resource, target.kind, entry.key.namespace, entry.key.name)
        try:
            await self._registry.delete(one, options)
        except ApiError as error:
            if error.code != 404:
                raise


def _write_options(request: web.Request, writing: Writing) -> WriteOptions:
    return read_write_options(request.query, request.headers.get("User-Agent", ""), writing)


async def read_body(request: web.Request) -> Json:
    """The object in a request.

    Raises:
        ApiError: 400 not an object, or 415 not JSON or YAML.
    """
    content = request.content_type if "Content-Type" in request.headers else ""
    if content not in _WRITABLE:
        raise unsupported_media(content, f"{JSON_TYPE}, application/yaml")
    raw = await request.read()
    if content == "application/yaml":
        return patch.read_configuration(raw)
    if content == protobuf.MEDIA_TYPE:
        return protobuf.decode_protobuf(raw)
    return decode_object(raw)


async def _read_options(request: web.Request) -> Json:
    """The DeleteOptions in a request; empty if there are none."""
    return await read_body(request) if await request.read() else {}


def _quoted(text: str) -> str:
    """Text for a header: what a client named must not break out of it."""
    plain = "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
    return plain[: limits.API_WARNING_CHARS].replace("\\", "\\\\").replace('"', '\\"')


def _warned(target: Target, response: web.Response) -> web.Response:
    """The same answer, with a warning if the version that was read is deprecated."""
    if target.kind.deprecated:
        response.headers.add("Warning", f'299 - "{_quoted(target.kind.deprecation_warning)}"')
    return response


def _answer(body: bytes | Iterable[bytes], status: int = 200) -> web.Response:
    whole = body if isinstance(body, bytes) else b"".join(body)
    return web.Response(body=whole, status=status, content_type=JSON_TYPE)
