"""What the embedded API acknowledged is there after a crash: it is killed while it writes."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clarion.testing.apiprocess import ApiProcess, Kubectl

MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"
ROUNDS = 4
WRITERS = 12


class Writer:
    """Creates, changes and deletes its own objects, and keeps what was acknowledged."""

    def __init__(self, number: int) -> None:
        self.prefix = f"w{number}"
        self.acknowledged: dict[str, str | None] = {}
        self.doubtful: set[str] = set()
        self._count = 0

    async def work(self, client: aiohttp.ClientSession) -> None:
        """Write until the server is gone; the write under way then is in doubt."""
        while True:
            name = f"{self.prefix}-{self._count}"
            self.doubtful = {name}
            body = {"metadata": {"name": name}, "data": {"v": "1"}}
            await self._request(client, "POST", MAPS, body)
            self.acknowledged[name] = "1"
            if self._count % 2:
                await self._request(client, "PATCH", f"{MAPS}/{name}", {"data": {"v": "2"}})
                self.acknowledged[name] = "2"
            if self._count % 3 == 2:
                await self._request(client, "DELETE", f"{MAPS}/{name}", None)
                self.acknowledged[name] = None
            self._count += 1

    @staticmethod
    async def _request(client: aiohttp.ClientSession, method: str, path: str, body: Any) -> None:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else None
        async with client.request(method, path, json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status in (200, 201), text


async def write_until_killed(server: ApiProcess, writers: list[Writer], writes: int) -> None:
    async with aiohttp.ClientSession(server.url) as client:
        tasks = [asyncio.create_task(writer.work(client)) for writer in writers]
        goal = sum(len(writer.acknowledged) for writer in writers) + writes
        while sum(len(writer.acknowledged) for writer in writers) < goal:
            await asyncio.wait(tasks, timeout=0.005, return_when=asyncio.FIRST_COMPLETED)
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        await asyncio.to_thread(server.kill)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, aiohttp.ClientError | ConnectionError), repr(ended)


async def everything(server: ApiProcess) -> dict[str, str]:
    async with aiohttp.ClientSession(server.url) as client, client.get(MAPS) as answer:
        body = await answer.json()
        return {item["metadata"]["name"]: item["data"]["v"] for item in body["items"]}


def test_killed_while_writing_loses_nothing_acknowledged(tmp_path: Path) -> None:
    server = ApiProcess(tmp_path)
    writers = [Writer(number) for number in range(WRITERS)]
    for number in range(ROUNDS):
        server.start()
        asyncio.run(write_until_killed(server, writers, writes=60 + 37 * number))
        server.start()
        found = asyncio.run(everything(server))
        left = dict(found)
        doubtful = set().union(*(writer.doubtful for writer in writers))
        for writer in writers:
            for name, value in writer.acknowledged.items():
                if name not in doubtful:
                    assert left.pop(name, None) == value, name
        assert set(left) <= doubtful
        for writer in writers:
            # What was in doubt is settled now, one way or the other, and must stay so.
            writer.acknowledged |= {name: found.get(name) for name in writer.doubtful}
            writer._count += 1
        assert server.stop() == 0
    database = sqlite3.connect(tmp_path / "data" / "clarion.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_restart_keeps_allocations_versions_and_unfinished_deletions(tmp_path: Path) -> None:
    def service(name: str) -> dict[str, Any]:
        return {
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        }

    async def call(method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession(server.url) as client,
            client.request(method, path, json=body) as answer,
        ):
            return dict(await answer.json())

    server = ApiProcess(tmp_path)
    server.start()
    first = asyncio.run(call("POST", SERVICES, service("first")))
    owner = asyncio.run(call("POST", MAPS, {"metadata": {"name": "owner"}}))
    asyncio.run(call("DELETE", f"{SERVICES}/none"))
    server.kill()

    server.start()
    again = asyncio.run(call("GET", f"{SERVICES}/first"))
    assert again == first
    # An address and a port that are held are given to nobody else, and released by deletion.
    stolen = service("thief")
    stolen["spec"]["clusterIP"] = first["spec"]["clusterIP"]
    refused = asyncio.run(call("POST", SERVICES, stolen))
    assert "provided IP is already allocated" in refused["message"]
    stolen = service("thief")
    stolen["spec"]["ports"][0]["nodePort"] = first["spec"]["ports"][0]["nodePort"]
    refused = asyncio.run(call("POST", SERVICES, stolen))
    assert "provided port is already allocated" in refused["message"]
    asyncio.run(call("DELETE", f"{SERVICES}/first"))
    taken = asyncio.run(call("POST", SERVICES, stolen))
    assert taken["spec"]["ports"] == first["spec"]["ports"]
    version = int(taken["metadata"]["resourceVersion"])
    # The process dies between the deletion of an owner and that of its dependents.
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    child = {"metadata": {"name": "child", "ownerReferences": [reference]}}
    asyncio.run(call("POST", MAPS, child))
    server.kill()
    database = sqlite3.connect(tmp_path / "data" / "clarion.db")
    database.execute(
        "INSERT INTO log (rev, type, res, ns, name, at, body)"
        " SELECT (SELECT MAX(rev) FROM log) + 1, 2, res, ns, name, at, body FROM log"
        " WHERE res = 'configmaps' AND name = 'owner'"
    )
    database.commit()
    database.close()

    server.start()
    while asyncio.run(call("GET", f"{MAPS}/child"))["kind"] != "Status":
        pass
    last = asyncio.run(call("POST", MAPS, {"metadata": {"name": "last"}}))
    assert int(last["metadata"]["resourceVersion"]) > version
    assert server.stop() == 0


def test_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with ApiProcess(tmp_path) as server:
        other = ApiProcess(tmp_path)
        other.kubeconfig = tmp_path / "other"
        with pytest.raises(RuntimeError, match="in use by another clarion process"):
            other.start()
        assert server.pid


@pytest.mark.usefixtures("judged")
def test_kubectl_watch_survives_a_restart(tmp_path: Path) -> None:
    """`kubectl wait` resumes its watch at the version it saw before the server was killed."""
    server = ApiProcess(tmp_path)
    server.start()
    mine = Kubectl(server.kubeconfig, tmp_path)
    mine("create", "configmap", "cm")
    version = mine.get("configmap", "cm")["metadata"]["resourceVersion"]
    server.kill()
    server.start()
    mine("label", "configmap", "cm", "a=b")
    raw = f"{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1"
    line = mine("get", "--raw", raw).splitlines()[0]
    event = json.loads(line)
    assert (event["type"], event["object"]["metadata"]["labels"]) == ("MODIFIED", {"a": "b"})
    assert server.stop() == 0
