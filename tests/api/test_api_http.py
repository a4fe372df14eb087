"""The wire as a plain HTTP client sees it: lists, watches, refusals, TLS."""

import asyncio
import io
import json
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clarion.testing.apiprocess import ApiProcess, Kubectl

from .sides import Side

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": "web"}}, "data": data}


async def create(client: aiohttp.ClientSession, name: str, **data: str) -> dict[str, Any]:
    async with client.post(MAPS, json=config_map(name, **data)) as answer:
        assert answer.status == 201, await answer.text()
        return dict(await answer.json())


async def read(client: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with client.get(path) as answer:
        return answer.status, await answer.json()


class Watch:
    """Lines of a watch."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def next(self) -> dict[str, Any]:
        line = await self._answer.content.readline()
        assert line, "the watch has ended"
        return dict(json.loads(line))

    async def next_change(self) -> dict[str, Any]:
        while (event := await self.next())["type"] == "BOOKMARK":
            pass
        return event


@asynccontextmanager
async def watch(client: aiohttp.ClientSession, query: str) -> AsyncIterator[Watch]:
    async with client.get(f"{MAPS}?watch=1&{query}") as answer:
        assert answer.status == 200, await answer.text()
        try:
            yield Watch(answer)
        finally:
            # TLS would wait for the other side's goodbye, beyond the end of the loop.
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()


def test_pages_are_of_one_moment(api: Side) -> None:
    async def scenario() -> None:
        async with api.session() as client:
            names = [f"page-{number:02}" for number in range(30)]
            for name in names:
                await create(client, name)
            query, found, versions = "limit=7&labelSelector=app%3Dweb", [], set()
            token = ""
            while True:
                _, page = await read(client, f"{MAPS}?{query}&continue={token}")
                found += [item["metadata"]["name"] for item in page["items"]]
                versions.add(page["metadata"]["resourceVersion"])
                # While the client reads on, objects go, change and come.
                number = len(found)
                await client.delete(f"{MAPS}/page-{29 - number // 2:02}")
                await create(client, f"page-{number:02}-new")
                token = page["metadata"].get("continue", "")
                if not token:
                    break
            assert [name for name in found if name.startswith("page-")] == names
            assert len(versions) == 1
            _, counted = await read(client, f"{MAPS}?limit=2")
            assert counted["metadata"]["remainingItemCount"] > 10
            async with client.delete(f"{MAPS}?labelSelector=app%3Dweb") as answer:
                assert answer.status == 200
            _, after = await read(client, f"{MAPS}?labelSelector=app%3Dweb")
            assert after["items"] == []

    asyncio.run(scenario())


def test_watch_resumes_from_a_version(api: Side) -> None:
    async def scenario() -> None:
        async with api.session() as client:
            first = await create(client, "resume-a")
            version = first["metadata"]["resourceVersion"]
            await create(client, "resume-b")
            await client.delete(f"{MAPS}/resume-a")
            async with watch(client, f"resourceVersion={version}") as stream:
                added, deleted = await stream.next(), await stream.next()
                assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", "resume-b")
                assert deleted["type"] == "DELETED"
                gone = deleted["object"]["metadata"]
                assert gone["name"] == "resume-a"
                assert int(gone["resourceVersion"]) > int(
                    added["object"]["metadata"]["resourceVersion"]
                )
            await client.delete(f"{MAPS}/resume-b")

    asyncio.run(scenario())


@pytest.mark.only("embedded", "the real one tells them each minute")
def test_bookmarks_move_on(api: Side) -> None:
    async def scenario() -> None:
        async with api.session() as client:
            _, page = await read(client, MAPS)
            start = page["metadata"]["resourceVersion"]
            async with watch(client, f"resourceVersion={start}&allowWatchBookmarks=true") as stream:
                other = "/api/v1/namespaces/default/secrets"
                async with client.post(other, json={"metadata": {"generateName": "s-"}}) as answer:
                    version = int((await answer.json())["metadata"]["resourceVersion"])
                while True:
                    event = await stream.next()
                    assert event["type"] == "BOOKMARK"
                    assert event["object"]["kind"] == "ConfigMap"
                    if int(event["object"]["metadata"]["resourceVersion"]) >= version:
                        return

    asyncio.run(scenario())


@pytest.mark.only("embedded", "the real one needs an etcd that tells its progress")
def test_watch_list_ends_its_beginning_with_a_bookmark(api: Side) -> None:
    async def scenario() -> None:
        async with api.session() as client:
            await create(client, "initial")
            query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1"
            async with watch(client, f"{query}&fieldSelector=metadata.name%3Dinitial") as stream:
                assert (await stream.next())["type"] == "ADDED"
                mark = (await stream.next())["object"]["metadata"]
                assert mark["annotations"] == {"k8s.io/initial-events-end": "true"}
            await client.delete(f"{MAPS}/initial")

    asyncio.run(scenario())


def test_watch_ends_in_time(api: Side) -> None:
    async def scenario() -> None:
        async with (
            api.session() as client,
            client.get(f"{MAPS}?watch=1&timeoutSeconds=1") as answer,
        ):
            await answer.read()

    asyncio.run(scenario())


@pytest.mark.only("embedded", "the real one forgets after minutes; see test_client_contract")
def test_compacted_versions_are_gone(quick_api: Side) -> None:
    async def scenario() -> None:
        async with quick_api.session() as client:
            old = (await create(client, "gone"))["metadata"]["resourceVersion"]
            for number in range(3):
                await create(client, f"filler-{number}")
            _, page = await read(client, f"{MAPS}?limit=1")
            token = page["metadata"]["continue"]
            async with watch(client, "allowWatchBookmarks=true") as live:
                while True:
                    number += 1
                    await create(client, f"filler-{number}")
                    async with watch(client, f"resourceVersion={old}") as stream:
                        event = await stream.next()
                    if event["type"] == "ERROR":
                        break
                    await live.next()
                assert event["object"]["code"] == 410
                assert event["object"]["reason"] == "Expired"
                # A watcher that keeps up is not affected, and a bookmark is always good to resume.
                await create(client, "after")
                while (event := await live.next()).get("type") != "BOOKMARK":
                    pass
                mark = event["object"]["metadata"]["resourceVersion"]
            code, refusal = await read(client, f"{MAPS}?limit=1&continue={token}")
            assert (code, refusal["reason"]) == (410, "Expired")
            code, refusal = await read(
                client, f"{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact"
            )
            assert code == 410
            async with watch(client, f"resourceVersion={mark}") as stream:
                await create(client, "resumed")
                assert (await stream.next_change())["type"] == "ADDED"

    asyncio.run(scenario())


def test_concurrent_writers_conflict_and_lose_nothing(api: Side) -> None:
    writers, rounds = 8, 12

    async def increment(client: aiohttp.ClientSession) -> int:
        conflicts = 0
        for _ in range(rounds):
            while True:
                _, body = await read(client, f"{MAPS}/counter")
                body["data"]["n"] = str(int(body["data"]["n"]) + 1)
                async with client.put(f"{MAPS}/counter", json=body) as answer:
                    if answer.status == 200:
                        break
                    assert answer.status == 409, await answer.text()
                    conflicts += 1
        return conflicts

    async def scenario() -> None:
        async with api.session() as client:
            await create(client, "counter", n="0")
            conflicts = await asyncio.gather(*(increment(client) for _ in range(writers)))
            _, body = await read(client, f"{MAPS}/counter")
            assert body["data"]["n"] == str(writers * rounds)
            assert sum(conflicts) > 0
            await client.delete(f"{MAPS}/counter")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "path", "body", "content", "code", "reason"),
    [
        ("GET", "/api/v1/things", b"", "", 404, "NotFound"),
        ("GET", MAPS + "/none", b"", "", 404, "NotFound"),
        ("POST", MAPS, b"{", "application/json", 400, "BadRequest"),
        ("POST", MAPS, b"[]", "application/json", 400, "BadRequest"),
        ("POST", MAPS, b'{"metadata":[]}', "application/json", 400, "BadRequest"),
        ("POST", MAPS, b"{}", "application/json", 422, "Invalid"),
        ("POST", MAPS, b"{}", "text/plain", 415, "UnsupportedMediaType"),
        ("POST", MAPS, b"k8s\0\xff", "application/vnd.kubernetes.protobuf", 400, "BadRequest"),
        ("POST", MAPS, b'{"kind":"Secret"}', "application/json", 400, "BadRequest"),
        ("POST", "/api/v1/configmaps", b"{}", "application/json", 405, "MethodNotAllowed"),
        ("PUT", MAPS, b"{}", "application/json", 405, "MethodNotAllowed"),
        ("POST", MAPS, b" " * (4 << 20), "application/json", 413, "RequestEntityTooLarge"),
        ("PATCH", MAPS + "/x", b"{}", "application/json", 415, "UnsupportedMediaType"),
        ("GET", MAPS + "?labelSelector=a%20b", b"", "", 400, "BadRequest"),
        ("GET", MAPS + "?fieldSelector=data.x%3D1", b"", "", 400, "BadRequest"),
        ("GET", MAPS + "?continue=xyz", b"", "", 400, "BadRequest"),
        ("GET", MAPS + "?resourceVersion=abc", b"", "", 400, "BadRequest"),
        ("GET", MAPS + "?resourceVersion=99999999", b"", "", 504, "Timeout"),
    ],
)
def test_refusals_are_statuses(
    api: Side, method: str, path: str, body: bytes, content: str, code: int, reason: str
) -> None:
    async def scenario() -> None:
        headers = {"Content-Type": content} if content else {}
        async with (
            api.session() as client,
            client.request(
                method, path, data=io.BytesIO(body) if body else None, headers=headers
            ) as answer,
        ):
            status = await answer.json()
            assert (answer.status, status["code"]) == (code, code)
            assert status["kind"] == "Status"
            assert status["reason"] == reason
            assert status["message"]

    asyncio.run(scenario())


@pytest.mark.only("embedded", "the real one speaks protobuf too")
def test_only_unreadable_media_is_not_acceptable(api: Side) -> None:
    async def scenario() -> None:
        async with api.session() as client:
            for accept, code in (
                ("application/vnd.kubernetes.protobuf", 406),
                ("application/vnd.kubernetes.protobuf,application/json", 200),
                ("*/*", 200),
            ):
                async with client.get(MAPS, headers={"Accept": accept}) as answer:
                    assert answer.status == code

    asyncio.run(scenario())


@pytest.mark.only("embedded", "the real one reads as deep as Go's decoder does")
def test_a_body_without_a_bottom_is_refused(api: Side) -> None:
    async def scenario() -> None:
        body, headers = b'{"a":' * 3000 + b"1" + b"}" * 3000, {"Content-Type": "application/json"}
        async with (
            api.session() as client,
            client.post(MAPS, data=io.BytesIO(body), headers=headers) as answer,
        ):
            assert answer.status == 400

    asyncio.run(scenario())


def test_warnings_stay_in_their_header(api: Side) -> None:
    async def scenario() -> None:
        body = {"metadata": {"generateName": "w-"}, 'a"b\r\nX-Evil: 1\u00e9': 1}
        async with (
            api.session() as client,
            client.post(f"{MAPS}?dryRun=All", json=body) as answer,
        ):
            assert answer.status == 201
            assert "X-Evil" not in answer.headers
            assert answer.headers["Warning"].startswith('299 - "unknown field')

    asyncio.run(scenario())


def test_health_and_field_validation_by_curl(api: Side) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    curl = ["curl", *api.curl_flags]
    for path in ("/healthz", "/livez", "/readyz"):
        assert subprocess.check_output([*curl, "-fsS", api.url + path]) == b"ok"
    command = [*curl, "-sS", "-D", "-", "-H", "Content-Type: application/json", "-d"]
    body = '{"metadata":{"generateName":"w-"},"dta":{}}'
    url = f"{api.url}{MAPS}?fieldValidation="
    warned = subprocess.check_output([*command, body, url + "Warn"], text=True)
    assert 'warning: 299 - "unknown field \\"dta\\""' in warned.lower()
    ignored = subprocess.check_output([*command, body, url + "Ignore"], text=True)
    assert " 201 " in ignored
    assert "warning" not in ignored.lower()
    refused = subprocess.check_output([*command, body, url + "Strict"], text=True)
    assert " 400 " in refused


@pytest.mark.usefixtures("judged")
def test_tls_and_token(tmp_path: Path) -> None:
    server = ApiProcess(tmp_path, "--secure")
    with server:
        mode = stat.S_IMODE(server.kubeconfig.stat().st_mode)
        assert mode == 0o600
        real = Kubectl(server.kubeconfig, tmp_path)
        real("get", "namespaces")
        config = json.loads(real("config", "view", "--raw", "-o", "json"))
        url = config["clusters"][0]["cluster"]["server"]
        assert url.startswith("https://")
        assert "Unauthorized" in real.fails("get", "namespaces", "--token=wrong")
        curl = ["curl", "-ksS", "-o", os.devnull, "-w", "%{http_code}"]
        assert subprocess.check_output([*curl, f"{url}/api"], text=True) == "401"
        assert subprocess.check_output([*curl, f"{url}/healthz"], text=True) == "200"
    token = config["users"][0]["user"]["token"]
    with server:
        again = json.loads(real("config", "view", "--raw", "-o", "json"))
        assert again["users"][0]["user"]["token"] == token
        assert (
            again["clusters"][0]["cluster"]["certificate-authority-data"]
            == (config["clusters"][0]["cluster"]["certificate-authority-data"])
        )
