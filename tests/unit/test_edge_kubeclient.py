"""The API client against a server that answers by script: typed objects, typed errors."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from clarion.edge import kubeclient as k
from clarion.edge.clock import SystemClock
from clarion.edge.credentials import FileCredentials, Identity, Replaced, StaticCredentials
from clarion.edge.kubeconfig import KubeConfig
from clarion.model import kinds
from clarion.model.core import ConfigMap, EndpointSlice, Service
from clarion.model.meta import ObjectKey, ObjectMeta
from clarion.testing.scripted import Answer, ScriptedServer, a_list, cut, refuse, reply, stream

KEY = ObjectKey("default", "web")
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "default", "name": "web", "resourceVersion": "7"},
    "spec": {"type": "LoadBalancer"},
}


def against(
    scene: Callable[[ScriptedServer, k.KubeClient], Awaitable[None]],
    *answers: Answer,
    identity: Identity | None = None,
    seconds: float = 5.0,
) -> ScriptedServer:
    """Run a scene against a server with this script; the server with what it saw."""

    async def main() -> ScriptedServer:
        async with ScriptedServer() as server:
            server.script(*answers)
            config = KubeConfig(server.url, StaticCredentials(identity or Identity()))
            async with k.KubeClient(config, timeout=seconds) as client:
                await scene(server, client)
            assert not server.beyond
        return server

    return asyncio.run(main())


def test_objects_come_typed_and_requests_say_who_asks() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        service = await client.get(Service, KEY)
        assert service.spec.type == "LoadBalancer"
        assert service.key == KEY

    server = against(scene, reply(SERVICE), identity=Identity("Bearer abc"))
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("GET", "/api/v1/namespaces/default/services/web")
    assert seen.headers["Authorization"] == "Bearer abc"
    assert seen.headers["User-Agent"].startswith("clarion/")


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "subresource", "path"),
    [
        (kinds.SERVICE, "", "", "", "/api/v1/services"),
        (kinds.SERVICE, "a", "", "", "/api/v1/namespaces/a/services"),
        (kinds.NODE, "", "n1", "status", "/api/v1/nodes/n1/status"),
        (kinds.NODE, "ignored", "n1", "", "/api/v1/nodes/n1"),
        (kinds.LEASE, "a", "b", "", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"),
        (
            kinds.BGP_PEER,
            "a",
            "b/../c",
            "",
            "/apis/metallb.io/v1beta2/namespaces/a/bgppeers/b%2F..%2Fc",
        ),
    ],
)
def test_paths(kind: kinds.Kind, namespace: str, name: str, subresource: str, path: str) -> None:
    assert k.path_of(kind, namespace, name, subresource) == path


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (400, "BadRequest", k.ApiError),
        (401, "Unauthorized", k.UnauthorizedError),
        (403, "Forbidden", k.ForbiddenError),
        (404, "NotFound", k.NotFoundError),
        (409, "Conflict", k.ConflictError),
        (409, "AlreadyExists", k.AlreadyExistsError),
        (410, "Expired", k.GoneError),
        (422, "Invalid", k.InvalidError),
        (429, "TooManyRequests", k.TooManyRequestsError),
        (500, "InternalError", k.ApiError),
        (301, "", k.ApiError),
    ],
)
def test_each_refusal_has_its_type(code: int, reason: str, error: type[k.ApiError]) -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.ApiError, match="no luck") as caught:
            await client.get(Service, KEY)
        assert type(caught.value) is error
        assert (caught.value.status, caught.value.reason) == (code, reason)
        assert "GET /api/v1/namespaces/default/services/web" in str(caught.value)

    against(scene, refuse(code, reason, "no luck"))


def test_the_server_says_how_long_to_wait_in_header_or_body() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        for wait in (7, 9):
            with pytest.raises(k.TooManyRequestsError) as caught:
                await client.get(Service, KEY)
            assert caught.value.retry_after == wait

    body = {"kind": "Status", "code": 429, "details": {"retryAfterSeconds": 9}}
    against(scene, refuse(429, retry_after=7), reply(body, 429, {"Retry-After": "soon"}))


def test_causes_name_the_fields() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.InvalidError) as caught:
            await client.create(ConfigMap(metadata=ObjectMeta(name="x", namespace="y")))
        assert [(cause.field, cause.message) for cause in caught.value.causes] == [
            ("spec.x", "is wrong")
        ]

    cause = {"reason": "FieldValueInvalid", "message": "is wrong", "field": "spec.x"}
    against(scene, reply({"kind": "Status", "code": 422, "details": {"causes": [cause]}}, 422))


def test_a_proxys_error_page_is_shown_in_part() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.ApiError, match="HTTP 502: <html>") as caught:
            await client.get(Service, KEY)
        assert len(str(caught.value)) < 400

    against(scene, reply(b"<html>" + b"x" * 1_000_000, 502))


@pytest.mark.parametrize("answers", [(cut(), cut()), (stream(b'{"meta', abort=True),)])
def test_a_cut_answer_is_no_answer(answers: tuple[Answer, ...]) -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.UnreachableError):
            await client.get(Service, KEY)

    against(scene, *answers)


def test_a_body_that_never_ends_runs_into_the_timeout() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.UnreachableError, match="no answer in time"):
            await client.get(Service, KEY)

    against(scene, stream(b'{"meta', None), seconds=0.2)


def test_the_wait_for_the_answer_to_a_watch_has_an_end() -> None:
    async def silence(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.UnreachableError, match="no answer in time"):
            async with client.watch(kinds.SERVICE, k.EVERYTHING, "7", 300):
                pass

    against(scene, silence, seconds=0.2)


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


@pytest.mark.parametrize(
    ("server", "proxy", "words"),
    [
        (
            "https://127.0.0.1:{port}",
            "",
            "web: 127.0.0.1:{port}: connection refused (does it run, and is `server` in FILE",
        ),
        ("http://[::1]:{port}", "", "[::1]:{port}: connection refused"),
        ("https://api.invalid", "", "api.invalid:443: the name cannot be resolved"),
        (
            "https://api.example",
            "http://u:secret@127.0.0.1:{port}",
            "the proxy for api.example:443: 127.0.0.1:{port}: connection refused (see proxy-url in",
        ),
    ],
)
def test_a_server_that_is_not_there(server: str, proxy: str, words: str) -> None:
    port = str(closed_port())
    server, proxy, words = (text.replace("{port}", port) for text in (server, proxy, words))

    async def main() -> str:
        credentials = StaticCredentials(Identity())
        config = KubeConfig(server, credentials, proxy=proxy, origin="FILE")
        async with k.KubeClient(config) as client:
            with pytest.raises(k.UnreachableError) as caught:
                await client.get(Service, KEY)
        return str(caught.value)

    told = asyncio.run(main())
    assert words in told
    assert "secret" not in told
    assert "ssl" not in told


def test_whom_we_impersonate_is_in_every_request() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(reply(SERVICE))
            headers = (
                ("Impersonate-User", "jane"),
                ("Impersonate-Group", "a"),
                ("Impersonate-Group", "b"),
            )
            config = KubeConfig(server.url, StaticCredentials(Identity()), headers=headers)
            async with k.KubeClient(config) as client:
                await client.get(Service, KEY)
        assert server.seen[0].headers["Impersonate-User"] == "jane"
        assert server.seen[0].headers["Impersonate-Group"] == "a, b"

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"metadata":5}', b'{"metadata":{'])
def test_an_answer_that_is_not_the_object_is_an_error_of_the_server(body: bytes) -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        with pytest.raises(k.UnreachableError, match="Service cannot be read"):
            await client.get(Service, KEY)

    against(scene, reply(body))


def test_a_refused_token_is_read_again_from_its_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old\n")

    async def main() -> ScriptedServer:
        async with ScriptedServer() as server:
            server.script(reply(SERVICE), refuse(401), reply(SERVICE), refuse(401))
            credentials = FileCredentials(Replaced(token, "token", SystemClock()))
            async with k.KubeClient(KubeConfig(server.url, credentials)) as client:
                await client.get(Service, KEY)
                token.write_text("new\n")
                await client.get(Service, KEY)
                with pytest.raises(k.UnauthorizedError):
                    await client.get(Service, KEY)
        return server

    server = asyncio.run(main())
    sent = [seen.headers["Authorization"] for seen in server.seen]
    assert sent == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"], (
        "no token, no second try"
    )


def test_credentials_that_cannot_be_had_now_are_a_refusal_that_may_pass(tmp_path: Path) -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            server.script(reply(SERVICE))
            credentials = FileCredentials(Replaced(tmp_path / "token", "token", SystemClock()))
            async with k.KubeClient(KubeConfig(server.url, credentials)) as client:
                with pytest.raises(k.UnauthorizedError, match="token: No such file"):
                    await client.get(Service, KEY)
                (tmp_path / "token").write_text("t")
                await client.get(Service, KEY)

    asyncio.run(main())


def test_lists_are_read_by_pages() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        found = await client.list_all(Service, k.Selection("default", labels="a=b", fields="c=d"))
        assert [service.name for service in found] == ["web", "web2"]

    second: dict[str, Any] = {**SERVICE, "metadata": {"name": "web2", "namespace": "default"}}
    server = against(scene, a_list(SERVICE, token="t1"), a_list(second))
    first, then = server.seen
    assert first.query == {"limit": "500", "labelSelector": "a=b", "fieldSelector": "c=d"}
    assert then.query == first.query | {"continue": "t1"}


def test_a_list_whose_token_expires_between_pages_is_read_in_one_piece() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        assert [found.name for found in await client.list_all(Service)] == ["web"]

    again = refuse(410, "Expired"), a_list(SERVICE)
    server = against(scene, a_list(SERVICE, token="t1"), *again)
    assert [seen.query for seen in server.seen] == [
        {"limit": "500"},
        {"limit": "500", "continue": "t1"},
        {},
    ]


@pytest.mark.parametrize(
    ("how", "content_type"),
    [
        (k.PatchType.MERGE, "application/merge-patch+json"),
        (k.PatchType.JSON, "application/json-patch+json"),
        (k.PatchType.APPLY, "application/apply-patch+yaml"),
    ],
)
def test_patches_carry_their_form_and_their_manager(how: k.PatchType, content_type: str) -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        patch = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
        await client.patch(Service, KEY, patch, how=how, subresource="status", force=True)

    (seen,) = against(scene, reply(SERVICE)).seen
    assert seen.method == "PATCH"
    assert seen.path.endswith("/services/web/status")
    assert seen.headers["Content-Type"] == content_type
    forced = {"force": "true"} if how is k.PatchType.APPLY else {}
    assert seen.query == {"fieldManager": "clarion"} | forced
    assert json.loads(seen.body)["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1"}]


def test_writes_and_deletes() -> None:
    obj = ConfigMap(metadata=ObjectMeta(name="x", namespace="y"), data={"a": "b"})
    stored = {"metadata": {"name": "x", "namespace": "y", "resourceVersion": "1"}}

    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        assert (await client.create(obj, dry_run=True)).metadata.resource_version == "1"
        await client.update(obj)
        await client.delete(ConfigMap, obj.key)
        await client.delete(ConfigMap, obj.key, uid="u", version="1")

    server = against(scene, *[reply(stored)] * 4)
    create, update, delete, careful = server.seen
    assert (create.method, create.query) == ("POST", {"dryRun": "All"})
    assert json.loads(create.body) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": "y"},
        "data": {"a": "b"},
    }
    assert (update.method, update.path) == ("PUT", "/api/v1/namespaces/y/configmaps/x")
    assert (delete.method, delete.body) == ("DELETE", b"")
    assert json.loads(careful.body)["preconditions"] == {"uid": "u", "resourceVersion": "1"}


def test_null_is_absent() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        found = await client.get(EndpointSlice, KEY)
        assert (found.name, found.endpoints, found.ports) == ("a", (), ())

    against(scene, reply({"metadata": {"name": "a"}, "endpoints": None, "ports": None}))


async def read_watch(client: k.KubeClient, got: list[bytes]) -> None:
    async with client.watch(kinds.SERVICE, k.EVERYTHING, "5", 60) as chunks:
        async for chunk in chunks:
            got.append(chunk)  # noqa: PERF401 - what came before the cut is kept


def test_a_watch_is_a_stream_of_bytes_and_its_cut_an_error() -> None:
    async def scene(_server: ScriptedServer, client: k.KubeClient) -> None:
        got: list[bytes] = []
        with pytest.raises(k.UnreachableError, match="watch /api/v1/services"):
            await read_watch(client, got)
        assert b"".join(got) == b"one\ntw"

    (seen,) = against(scene, stream(b"one\n", 0.01, b"tw", abort=True)).seen
    assert seen.query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "60",
    }
