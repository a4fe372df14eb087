"""From MetalLB 0.15 and 0.16 to Clarion and back, on the real API server.

The state is that of `examples/migration`. What is looked at is what users have: addresses,
annotations, statuses; nothing may be written that is right already.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from clarion.lab.process import wait_until
from clarion.model.schema import custom_resource_definitions
from clarion.testing.engine import Engine

from .migration_kit import NODES, SYSTEM, TOLD, Migration, Object, clarion, documents

CONDITION = "clarion.metallb.io/AddressAssigned"
PENDING = "waiting"
"""The one service of the state that has no address."""


@pytest.fixture(params=["0.15", "0.16"])
def migration(
    engine: Engine, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Migration]:
    """A cluster of its own, as MetalLB leaves it: definitions of kinds are for all users of one."""
    assert engine.pids, "the programs are there, or the fixture would have skipped"
    with Engine(tmp_path_factory.mktemp("migration")) as own:
        made = Migration(own, request.param)
        made.write_state()
        yield made


def metallb_owner(address: str) -> str:
    """Who answers for an address under MetalLB, from its rule: SHA-256 of node and address."""
    return min(NODES, key=lambda node: hashlib.sha256(f"{node}#{address}".encode()).digest())


def verdicts(migration: Migration) -> dict[str, tuple[str, str]]:
    done = clarion(migration.engine, "doctor", "--no-wire", "-o", "json", check=False)
    assert done.stdout, done.stderr
    found = {
        item["code"]: (item["verdict"], item["says"]) for item in json.loads(done.stdout)["checks"]
    }
    assert done.returncode == int("failed" in {verdict for verdict, _ in found.values()})
    return found


def without_version(service: Object) -> dict[str, Any]:
    metadata = dict(service["metadata"])
    for key in ("resourceVersion", "managedFields"):
        metadata.pop(key, None)
    return {**service, "metadata": metadata}


def own_names(migration: Migration, plural: str) -> list[str]:
    """Names of status objects whose owner is a Node or nobody: those that no Pod takes along."""
    return [
        item["metadata"]["name"]
        for item in migration.items(plural)
        if all(owner["kind"] != "Pod" for owner in item["metadata"].get("ownerReferences", []))
    ]


def test_the_state_is_what_metallb_elects(migration: Migration) -> None:
    """The examples are worth something only if they are what MetalLB would leave."""
    services = migration.services()
    for item in migration.items("servicel2statuses"):
        status = item["status"]
        first = services[status["serviceName"]]["status"]["loadBalancer"]["ingress"][0]["ip"]
        assert status["node"] == metallb_owner(first)


def test_there_and_back(migration: Migration) -> None:
    kubectl = migration.kubectl
    services = migration.services()
    answering = migration.told("servicel2statuses")
    events = migration.items("events", "shop")

    # Before: the doctor sees who is there, and what will stand in the way.
    found = verdicts(migration)
    assert found["second-announcer"][0] == "failed"
    assert all(node in found["second-announcer"][1] for node in NODES)
    assert found["status-writers"][0] == "warning"
    assert found["webhooks"][0] == "failed"
    assert found["definitions"][0] == "warning"
    assert "bgpsessions.clarion.metallb.io is not served" in found["definitions"][1]
    planned = clarion(migration.engine, "plan", "-o", "json", check=False)
    assert planned.returncode == 0, planned.stderr

    # There.
    take_over(migration)
    with migration.programs():
        wait_until(lambda: settled(migration, answering), 60, "statuses are Clarion's own")
        compare(services, migration.services())
        assert all(item in migration.items("events", "shop") for item in events)
        secret = kubectl.get("secret", "memberlist", "-n", SYSTEM)
        assert secret["data"]["secretkey"]
        found = verdicts(migration)
        assert {code for code, (verdict, _) in found.items() if verdict == "failed"} == (
            {"pending"} if migration.version == "0.15" else {"pending", "frr-leftovers"}
        )
        assert found["second-announcer"][0] == "ok"

    # Back: what stands there is what MetalLB reads, and what it does not know it may ignore.
    left_for_metallb(migration, services)


def take_over(migration: Migration) -> None:
    """As docs/migration.md says."""
    kubectl = migration.kubectl
    no_owner = json.dumps([{"op": "remove", "path": "/metadata/ownerReferences"}])
    kubectl("patch", "secret", "memberlist", "-n", SYSTEM, "--type=json", "-p", no_owner)
    kubectl("delete", "validatingwebhookconfiguration", "metallb-webhook-configuration")
    migration.end_metallb()
    kubectl("delete", "configurationstates", "--all", "-n", SYSTEM)
    definitions = clarion(migration.engine, "crds").stdout
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=definitions)


def settled(migration: Migration, answering: set[tuple[str, str]]) -> bool:
    """Every status is told once, by the same node as before, and no Pod of MetalLB owns it."""
    assert migration.told("servicel2statuses") == answering
    told = migration.told("servicebgpstatuses")
    assert told == {("node-b", "api"), *((node, "legacy") for node in NODES)}
    for plural in TOLD:
        assert len(own_names(migration, plural)) == len(migration.told(plural))
        assert len(migration.items(plural)) == len(migration.told(plural))
    states = {item["metadata"]["name"]: item for item in migration.items("configurationstates")}
    assert states.keys() == {"controller", *(f"speaker-{node}" for node in NODES)}
    assert {item.get("status", {}).get("result") for item in states.values()} == {"Valid"}
    pending = migration.services()[PENDING]["status"]
    assert [item["type"] for item in pending.get("conditions", [])] == [CONDITION]
    return True


def compare(before: dict[str, Object], after: dict[str, Object]) -> None:
    """No service was written, but for the condition on the one that waits for an address."""
    assert after.keys() == before.keys()
    for name in before.keys() - {PENDING}:
        assert after[name] == before[name], f"{name} was written"
    waiting = without_version(after[PENDING])
    assert waiting["status"].pop("conditions")
    assert waiting == without_version(before[PENDING])


def left_for_metallb(migration: Migration, services: dict[str, Object]) -> None:
    """What Clarion leaves behind: the objects of before, and marks that MetalLB does not read."""
    kubectl = migration.kubectl
    compare(services, migration.services())
    configured = [
        item
        for item in documents(f"metallb-{migration.version}.yaml")
        if item["apiVersion"].startswith("metallb.io/") and "spec" in item
    ]
    text = "\n".join(map(json.dumps, configured))
    stored = json.loads(kubectl("get", "-f", "-", "-o", "json", stdin=text))["items"]
    for item, found in zip(configured, stored, strict=True):
        assert item["spec"].items() <= found["spec"].items()
        assert not found["metadata"].get("finalizers")
        assert not [key for key in found["metadata"].get("annotations", {}) if "clarion" in key]
    leases = migration.items("leases")
    assert all(item["metadata"]["name"].startswith("clarion-") for item in leases)
    schemas = {item["metadata"]["name"] for item in custom_resource_definitions()}
    assert schemas <= {item["metadata"]["name"] for item in kubectl.get("crd")["items"]}
