"""`explain`, `plan` and `status` of a live API, as a user runs them: what is written, who lives."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from clarion.base.addr import parse_address
from clarion.cli.explain import command as explain
from clarion.cli.plan import command as plan
from clarion.cli.status import command as status
from clarion.daemons.liveness import (
    CONTROLLER_LEASE,
    INTERFACES_ANNOTATION,
    LEASE_LABELS,
    SESSIONS_ANNOTATION,
    SETTINGS_ANNOTATION,
    lease_name,
)
from clarion.daemons.rests import resting_text
from clarion.decide.resting import Rest
from clarion.decide.snapshot import Options
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient, PatchType
from clarion.edge.kubeconfig import find_config
from clarion.edge.leases import micro_time
from clarion.model.annotations import (
    LABEL_NODE,
    LABEL_SERVICE_NAME,
    LABEL_SERVICE_NAMESPACE,
    RESTING,
)
from clarion.model.codec import encode
from clarion.model.core import Lease, LeaseSpec, Node, Service
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import (
    IPAddressPool,
    ServiceL2Status,
    ServiceL2StatusStatus,
)
from clarion.model.sessions import (
    BGPSession,
    BGPSessionStatus,
    SessionBFD,
    SessionEvent,
    SessionPrefixes,
)
from clarion.testing import builders as b
from clarion.testing.apiprocess import ApiProcess

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
SYSTEM = b.CONFIG_NAMESPACE
HAS, ASKS = ObjectKey("default", "has"), ObjectKey("default", "asks")


def lease(name: str, age: float, seconds: int, **told: Any) -> Lease:
    renewed = micro_time(datetime.now(UTC) - timedelta(seconds=age))
    spec = LeaseSpec(holder_identity=name, lease_duration_seconds=seconds, renew_time=renewed)
    return Lease(metadata=ObjectMeta(name=name, namespace=SYSTEM, **told), spec=spec)


def speaker(node: str, age: float) -> Lease:
    told = {INTERFACES_ANNOTATION: "eth0", SESSIONS_ANNOTATION: '{"r":"Active"}'}
    return lease(lease_name(node), age, 60, labels=LEASE_LABELS, annotations=told)


def report(node: str) -> ServiceL2Status:
    labels = {
        LABEL_NODE: node,
        LABEL_SERVICE_NAME: HAS.name,
        LABEL_SERVICE_NAMESPACE: HAS.namespace,
    }
    return ServiceL2Status(metadata=ObjectMeta(name=f"l2-{node}", namespace=SYSTEM, labels=labels))


def resting_pool() -> IPAddressPool:
    pool = b.pool("tight", "198.51.100.0/32", hold_down="10m", auto=False)
    rest = Rest(parse_address("198.51.100.0"), ObjectKey("default", "gone"), 0.0)
    pool.metadata.annotations[RESTING] = resting_text([rest], datetime.now(UTC), 30.0)
    return pool


def world() -> list[KubeObject]:
    """A cluster as it is now: leases and rests tell of moments."""
    return [
        b.node("n1"),
        b.node("n2"),
        b.pool("p", "192.0.2.0/30"),
        resting_pool(),
        b.l2_advertisement("l2", pools=["p"], nodes=["!no-l2"]),
        b.bgp_advertisement("bgp", pools=["p"]),
        b.peer("r"),
        *(b.endpoints(key.name, "n1", "n2") for key in (HAS, ASKS)),
        speaker("n1", 0.0),
        speaker("n2", 0.0),
        lease(CONTROLLER_LEASE, 0.0, 3600),
        report("n1"),
        report("n2"),
    ]


async def write(kubeconfig: Path) -> None:
    async with KubeClient(find_config(str(kubeconfig), SystemClock())) as client:
        for obj in world():
            await client.create(obj)
        for key in (HAS, ASKS):
            await client.create(b.service(key.name, cluster_ips=()))
        ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
        await client.patch(Service, HAS, ingress, subresource="status")
        for node in ("n1", "n2"):
            about = ServiceL2StatusStatus(
                node=node, service_name=HAS.name, service_namespace=HAS.namespace
            )
            key = ObjectKey(SYSTEM, f"l2-{node}")
            await client.patch(ServiceL2Status, key, {"status": about}, subresource="status")


async def merge(kubeconfig: Path, kind: type[KubeObject], key: ObjectKey, patch: object) -> None:
    async with KubeClient(find_config(str(kubeconfig), SystemClock())) as client:
        await client.patch(kind, key, patch)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with ApiProcess(tmp_path_factory.mktemp("live")) as server:
        asyncio.run(write(server.kubeconfig))
        yield server.kubeconfig


def run(api: Path, command: click.Command, *arguments: str) -> Result:
    words = [*arguments, "--kubeconfig", str(api)]
    result = CliRunner().invoke(command, words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def renewed(api: Path, name: str, age: float) -> None:
    when = micro_time(datetime.now(UTC) - timedelta(seconds=age))
    asyncio.run(merge(api, Lease, ObjectKey(SYSTEM, name), {"spec": {"renewTime": when}}))


def test_what_is_written_and_what_is_reported(api: Path) -> None:
    text = run(api, explain, "service", "has").stdout
    assert "✓ has 192.0.2.1 of pool p" in text
    assert "reports that it answers\n" in text
    assert "reports that it answers, and is not to" in text
    assert "✗ r: Active on n1, n2" in text
    assert "no session is up" in text
    by_address = run(api, explain, "address", "192.0.2.1").stdout
    assert "reports that it answers, and is not to" in by_address


def test_what_is_not_written_yet(api: Path) -> None:
    text = run(api, explain, "service", "asks").stdout
    assert text.startswith("· service default/asks")
    assert "is about to get 192.0.2.0 of pool p: the controller has not written it yet" in text
    assert "will answer" in text
    assert "192.0.2.0 (not yet written)" in run(api, plan).stdout
    found = json.loads(run(api, plan, "-o", "json").stdout)["services"]
    assert found["default/has"]["written"] == found["default/has"]["addresses"] == ["192.0.2.1"]
    assert found["default/asks"]["written"] == []


def test_nobody_lives(api: Path) -> None:
    renewed(api, CONTROLLER_LEASE, 7200.0)
    try:
        for question in (("service", "asks"), ("pool", "p")):
            assert (
                "✗ no controller has renewed its lease for 7" in run(api, explain, *question).stdout
            )
        assert "no controller" not in run(api, explain, "service", "has").stdout
        assert "warning [controller-silent]" in run(api, plan).stderr
        for node in ("n1", "n2"):
            renewed(api, lease_name(node), 900.0)
        shown = run(api, status).stdout.splitlines()
        assert shown[0].startswith("ALARM: no controller has renewed its lease for 720")
        assert shown[1].startswith("ALARM: no speaker has renewed its lease for 90")
        assert len(json.loads(run(api, status, "-o", "json").stdout)["Alarms"]) == 2
        text = run(api, explain, "node", "n1").stdout
        assert "its speaker has not renewed its lease for 90" in text
        assert "Active" not in text, "what a dead speaker said last is no news"
    finally:
        for name in (CONTROLLER_LEASE, lease_name("n1"), lease_name("n2")):
            renewed(api, name, 0.0)
    tables = json.loads(run(api, status, "-o", "json").stdout)
    assert tables["Alarms"] == []
    assert tables["Controller"][0]["alive"] == "yes"
    assert {row["alive"] for row in tables["Speakers"]} == {"yes"}


def test_what_rests_is_known(api: Path) -> None:
    done = run(api, explain, "address", "198.51.100.0")
    assert "was given back by default/gone less than 10m0s ago" in done.stdout
    assert "1 resting" in run(api, explain, "pool", "tight").stdout


def test_exit_codes(api: Path) -> None:
    assert run(api, explain, "address", "192.0.2.2").return_value == 0
    for question in (("address", "203.0.113.1"), ("service", "nobody"), ("node", "n9")):
        assert run(api, explain, *question).return_value == 1


def test_an_object_with_an_error_is_named_as_the_cause(api: Path) -> None:
    key = ObjectKey(SYSTEM, "bgp")
    kind = type(b.bgp_advertisement("bgp"))
    asyncio.run(merge(api, kind, key, {"spec": {"communities": ["nonsense"]}}))
    try:
        text = run(api, explain, "service", "has").stdout
        assert "BGP: no advertisement is in force" in text
        assert "BGPAdvertisement metallb-system/bgp has an error (alias-unknown)" in text
        done = run(api, plan)
        assert done.return_value == 1
        assert "warning [object-in-doubt]" in done.stderr
    finally:
        asyncio.run(merge(api, kind, key, {"spec": {"communities": None}}))


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        (Options(), (), "✓ has 192.0.2.1 of pool p"),
        (Options(lb_class="a/b"), (), "its loadBalancerClass is (none), and ours is a/b"),
        (Options(), ("--lb-class", "c/d"), "its loadBalancerClass is (none), and ours is c/d"),
        (Options(backend="frr-k8s"), ("--bgp", "native"), "✓ has 192.0.2.1 of pool p"),
    ],
)
def test_answers_reckon_with_the_flags_of_the_speakers(
    api: Path, settings: Options, words: tuple[str, ...], said: str
) -> None:
    def told(text: str | None) -> None:
        for node in ("n1", "n2"):
            note = {"metadata": {"annotations": {SETTINGS_ANNOTATION: text}}}
            asyncio.run(merge(api, Lease, ObjectKey(SYSTEM, lease_name(node)), note))

    told(encode(settings).decode())
    try:
        assert said in run(api, explain, "service", "has", *words).stdout
    finally:
        told(None)


def test_a_node_that_is_excluded_announces_where_the_speakers_are_told_so(api: Path) -> None:
    label = "node.kubernetes.io/exclude-from-external-load-balancers"
    excluded = {"metadata": {"labels": {label: ""}}}
    asyncio.run(merge(api, Node, ObjectKey("", "n1"), excluded))
    key, settings = ObjectKey(SYSTEM, lease_name("n1")), Options(ignore_exclude_lb=True)
    try:
        assert "✗ it is excluded" in run(api, explain, "node", "n1").stdout
        note = {"metadata": {"annotations": {SETTINGS_ANNOTATION: encode(settings).decode()}}}
        asyncio.run(merge(api, Lease, key, note))
        assert "✓ it may announce" in run(api, explain, "node", "n1").stdout
    finally:
        for kind, named, field, name in (
            (Node, ObjectKey("", "n1"), "labels", label),
            (Lease, key, "annotations", SETTINGS_ANNOTATION),
        ):
            asyncio.run(merge(api, kind, named, {"metadata": {field: {name: None}}}))


def test_every_answer_conforms_to_its_schema(api: Path) -> None:
    validator = jsonschema_rs.validator_for(json.loads((SCHEMAS / "explain.v1.json").read_text()))
    for question in (
        "service has",
        "service asks",
        "address 192.0.2.1",
        "peer r",
        "node n1",
        "pool p",
    ):
        text = run(api, explain, *question.split(), "-o", "json").stdout
        assert validator.is_valid(json.loads(text))


REFUSED = "cannot connect to 198.51.100.1 port 179: Connection refused"


async def write_session(kubeconfig: Path) -> None:
    report = BGPSessionStatus(
        node="n1",
        peer="r",
        state="Active",
        since="2026-01-01T00:00:00Z",
        bfd=SessionBFD(state="down"),
        prefixes=SessionPrefixes(announced=0),
        last_error=SessionEvent(text=REFUSED),
    )
    async with KubeClient(find_config(str(kubeconfig), SystemClock())) as client:
        key = ObjectKey(SYSTEM, "n1-r")
        await client.create(BGPSession(metadata=ObjectMeta(name=key.name, namespace=SYSTEM)))
        patch = [{"op": "add", "path": "/status", "value": report}]
        how = PatchType.JSON
        await client.patch(BGPSession, key, patch, how=how, subresource="status")


def test_sessions_are_told_from_objects_and_else_from_leases(api: Path) -> None:
    """A speaker of before writes no objects: the word on its Lease is all there is."""
    renewed(api, "clarion-speaker-n1", 0.0)
    validator = jsonschema_rs.validator_for(json.loads((SCHEMAS / "status.v1.json").read_text()))

    def row() -> dict[str, str]:
        shown = json.loads(run(api, status, "-o", "json").stdout)
        assert validator.is_valid(shown)
        (found,) = (each for each in shown["Sessions"] if each["node"] == "n1")
        return dict(found)

    before = row()
    assert (before["state"], before["BFD"], before["why not"]) == ("Active", "-", "-")
    asyncio.run(write_session(api))
    after = row()
    assert (after["state"], after["BFD"], after["prefixes"]) == ("Active", "down", "0")
    assert after["why not"] == f"nothing listens there: {REFUSED}"
    told = run(api, explain, "peer", "r").output
    assert "session of n1: Active since 2026-01-01T00:00:00Z, BFD down" in told
    assert "configure this node as a neighbor on the router" in told
