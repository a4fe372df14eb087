"""The programs run on the real API server with the shipped roles, which are just what they need.

Two controllers and a speaker, with the arguments of the manifests and the tokens of their service
accounts, go through all that they do. Judge: the API server's audit log, compared with the roles.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from clarion.lab.netns import NETNS_DIR, Lab, Namespace, sweep
from clarion.lab.nodes import clarion
from clarion.lab.process import Process, wait_until
from clarion.model.annotations import HOLD_DOWN, LABEL_COMPONENT_TYPE, RESTING
from clarion.testing.apiprocess import Kubectl, free_port
from clarion.testing.engine import Engine, Request

from .deploy_kit import (
    KUSTOMIZE,
    SYSTEM,
    Object,
    by_kind,
    container_of,
    kustomized,
    missing,
    text_of,
)

RELAY: Final = Path(__file__).with_name("relay.py")
LAB: Final = "pytest-rbac-"
NODE: Final = "node-a"
CERTIFICATE: Final = "metallb-webhook-cert"


class Right(msgspec.Struct, frozen=True, order=True):
    """One thing that a role allows; an empty name means any object."""

    part: str
    verb: str
    group: str
    resource: str
    name: str
    everywhere: bool

    def covers(self, request: Request) -> bool:
        """Whether a request makes use of it. One for everywhere is used outside our namespace."""
        resource = "/".join(filter(None, (request.resource, request.subresource)))
        return (
            (self.verb, self.group, self.resource) == (request.verb, request.group, resource)
            and self.name in ("", request.name)
            and self.everywhere == (request.namespace != SYSTEM)
        )


def rights(items: list[Object]) -> set[Right]:
    """What the shipped roles allow, one by one."""
    return {
        Right(role["metadata"]["labels"]["component"], verb, group, resource, name, everywhere)
        for kind, everywhere in (("ClusterRole", True), ("Role", False))
        for role in by_kind(items, kind)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


class Bed:
    """The cluster with everything applied, and the programs."""

    def __init__(self, engine: Engine, host: Namespace, items: list[Object]) -> None:
        self.engine = engine
        self.host = host
        self.kubectl: Kubectl = engine.kubectl
        self.items = items
        self.hook_port = free_port()
        self.accounts = {
            part: engine.service_account_kubeconfig(
                SYSTEM, part, engine.directory / f"{part}.kubeconfig"
            )
            for part in ("controller", "speaker")
        }
        self.controllers: list[Process] = []
        self.speaker: Process
        self.relay: Process

    def arguments(self, kind: str, hook_port: int = 0) -> list[str]:
        """The arguments of a manifest, with this test's ports and names in place."""
        words = container_of(by_kind(self.items, kind)[0])["args"]
        changed = {
            "--listen-http": f"127.0.0.1:{free_port()}",
            "--webhook-listen": f"127.0.0.1:{hook_port}",
        }
        found = []
        for word in words:
            flag, equals, value = word.partition("=")
            value = value.replace("$(NAMESPACE)", SYSTEM).replace("$(NODE_NAME)", NODE)
            found.append(f"{flag}{equals}{changed.get(flag, value)}")
        return found

    def start(self) -> None:
        """Start everything, each program with the token of its own account."""
        directory = self.engine.directory
        for number, port in enumerate((self.hook_port, free_port())):
            argv = clarion(*self.arguments("Deployment", port))
            argv += ["--kubeconfig", str(self.accounts["controller"])]
            self.controllers.append(Process(argv, log=directory / f"controller-{number}.log"))
        namespace = NETNS_DIR / self.host.full_name
        relay = [sys.executable, str(RELAY), str(namespace), str(self.engine.port)]
        self.relay = Process(relay, log=directory / "relay.log")
        argv = clarion(*self.arguments("DaemonSet"))
        argv += ["--kubeconfig", str(self.accounts["speaker"])]
        self.speaker = self.host.popen(argv, log="speaker.log")

    def said(self) -> str:
        """The ends of the logs."""
        return "\n".join(process.tail(12) for process in (*self.controllers, self.speaker))

    def stop(self) -> None:
        """End the programs as Pods are ended."""
        programs = (self.speaker, *self.controllers)
        ends = [program.stop() for program in programs]
        self.relay.stop()
        assert ends == [0] * len(ends), self.said()

    def requests(self, part: str) -> list[Request]:
        """What an account asked for; questions about the server itself are left out."""
        asked = self.engine.requests(f"system:serviceaccount:{SYSTEM}:{part}")
        return [request for request in asked if request.resource]

    def names(self, *words: str) -> list[str]:
        """What `kubectl get ... -o name` prints."""
        return self.kubectl("get", *words, "-o", "name").split()

    def until(self, what: str, *words: str, count: int = 1) -> None:
        """Wait until there are so many objects."""
        wait_until(lambda: len(self.names(*words)) == count, 40, what, seen=self.said)

    def apply(self, *items: Object) -> None:
        """Apply objects as an administrator; the webhooks are asked."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=text_of(items))


def redirected(items: list[Object], port: int) -> list[Object]:
    """The manifests with a webhook Service that leads to this machine's loopback."""
    for service in by_kind(items, "Service"):
        service["spec"] = {"type": "ExternalName", "externalName": "localhost"}
    for hook in by_kind(items, "ValidatingWebhookConfiguration")[0]["webhooks"]:
        hook["clientConfig"]["service"]["port"] = port
    for definition in by_kind(items, "CustomResourceDefinition"):
        conversion = definition["spec"]["conversion"]
        if "webhook" in conversion:
            conversion["webhook"]["clientConfig"]["service"]["port"] = port
    return items


@pytest.fixture(scope="module")
def bed(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    del engine  # asked for because it says why there is none; this one has its own webhooks
    if os.geteuid() != 0:
        missing("needs root: the speaker runs in a network namespace")
    sweep(prefix=LAB)
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(f"{LAB}{os.getpid()}"))
        host = lab.namespace(NODE)
        lab.switch("sw").attach(host, "eth0", ["192.0.2.10/24", "2001:db8::10/64"])
        made = stack.enter_context(Engine(tmp_path_factory.mktemp("rbac")))
        items = kustomized(made.kubectl, KUSTOMIZE / "native")
        made.kubectl("apply", "--server-side", "-f", "-", stdin=text_of(items))
        bed = Bed(made, host, items)
        made.kubectl(
            *("apply", "--server-side", "--force-conflicts", "-f", "-"),
            stdin=text_of(redirected(items, bed.hook_port)),
        )
        yield bed


def metallb(kind: str, version: str = "v1beta1", **spec: Any) -> Object:
    meta = {"name": "all", "namespace": SYSTEM}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": meta, "spec": spec}


def annotated(item: Object, annotations: dict[str, str]) -> Object:
    return {**item, "metadata": {**item["metadata"], "annotations": annotations}}


def service(kind: str) -> Object:
    meta = {"name": "web", "namespace": "default"}
    spec = {"type": kind, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


CONFIGURATION = (
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "peer", "namespace": SYSTEM},
        "stringData": {"username": "-", "password": "lab-secret"},
    },
    annotated(metallb("IPAddressPool", addresses=["203.0.113.0/28"]), {HOLD_DOWN: "1h"}),
    metallb("L2Advertisement"),
    metallb("BGPAdvertisement"),
    metallb("BFDProfile"),
    metallb("Community", communities=[{"name": "a", "value": "64500:1"}]),
    metallb(
        "BGPPeer",
        "v1beta2",
        myASN=64513,
        peerASN=64512,
        peerAddress="192.0.2.1",
        passwordSecret={"name": "peer"},
    ),
)
SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {
        "name": "web",
        "namespace": "default",
        "labels": {"kubernetes.io/service-name": "web"},
    },
    "addressType": "IPv4",
    "ports": [{"port": 80}],
    "endpoints": [{"addresses": ["198.51.100.9"], "nodeName": NODE, "conditions": {"ready": True}}],
}
NODE_OBJECT = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
STATUSES = ("servicel2statuses", "servicebgpstatuses")


@pytest.fixture(scope="module")
def lived(bed: Bed) -> Bed:
    """All that the programs do, once."""
    bed.start()
    try:
        _live(bed)
    finally:
        bed.stop()
    return bed


def _live(bed: Bed) -> None:
    hooks = ("validatingwebhookconfiguration", "metallb-webhook-configuration")

    def bundles() -> list[str]:
        found = bed.kubectl.get(*hooks)["webhooks"]
        return [hook["clientConfig"].get("caBundle", "") for hook in found]

    wait_until(lambda: all(bundles()), 40, "the authority is published", seen=bed.said)
    wait_until(
        lambda: (
            bed.kubectl.run("apply", "-f", "-", stdin=text_of(CONFIGURATION[1:2])).returncode == 0
        ),
        30,
        "the API server asks the webhook",
        seen=bed.said,
    )
    # The speaker's state is there before its Node, which then becomes its owner.
    bed.until("both say what they think", "configurationstates", "-n", SYSTEM, count=2)
    _adopted(bed)
    bed.apply(NODE_OBJECT, SLICE, *CONFIGURATION)
    for item in CONFIGURATION[1:]:
        misplaced = {**item, "metadata": {"name": "all", "namespace": "default"}}
        said = bed.kubectl.fails("create", "-f", "-", stdin=text_of([misplaced]))
        assert "[wrong-namespace]" in said  # through the Service, on the path of its kind
    # Twice the same, so that events are counted up and statuses come, go and come again.
    for kind, count in (("LoadBalancer", 1), ("ClusterIP", 0), ("LoadBalancer", 1)):
        bed.apply(service(kind))
        for status in STATUSES:
            bed.until(f"{count} {status}", status, "-n", SYSTEM, count=count)
        wait_until(partial(rests, bed, 1 - count), 20, "rest is written", seen=bed.said)
    for part in ("controller", "speaker"):
        again = partial(counted_up, bed, f"metallb-{part}")
        wait_until(again, 30, f"{part}: one event, twice")

    def told() -> bool:
        printed = bed.kubectl("get", "bgpsessions", "-n", SYSTEM).splitlines()
        head, *rows = (line.split() for line in printed)
        shown = head[1:] == "NODE PEER STATE BFD SINCE PREFIXES LAST ERROR".split()  # noqa: SIM905
        return shown and [row[1:3] for row in rows] == [[NODE, "all"]] and "cannot" in rows[0]

    wait_until(told, 20, "kubectl shows the session and why it is down", seen=bed.said)
    bed.kubectl("delete", "bgppeer", "all", "-n", SYSTEM)
    bed.until("its object goes with the peer", "bgpsessions", "-n", SYSTEM, count=0)

    def used() -> int:
        return int(bed.kubectl.get("ipaddresspool", "all", "-n", SYSTEM)["status"]["assignedIPv4"])

    wait_until(lambda: used() == 1, 20, "the pool's status counts", seen=bed.said)
    before = bed.kubectl.get("secret", CERTIFICATE, "-n", SYSTEM)["data"]["tls.crt"]
    patch = json.dumps({"data": {"tls.crt": ""}})
    bed.kubectl("patch", "secret", CERTIFICATE, "-n", SYSTEM, "--type=merge", "-p", patch)

    def repaired() -> bool:
        now = bed.kubectl.get("secret", CERTIFICATE, "-n", SYSTEM)["data"]["tls.crt"]
        return now not in ("", before)

    wait_until(repaired, 30, "the certificate is made anew", seen=bed.said)


def _adopted(bed: Bed) -> None:
    """An object as MetalLB leaves it, without our label, is made ours when there is news."""
    state = ("configurationstate", "controller", "-n", SYSTEM)
    bed.kubectl("label", *state, f"{LABEL_COMPONENT_TYPE}-")
    odd = metallb("L2Advertisement", ipAddressPools=["nowhere"])
    bed.apply({**odd, "metadata": {**odd["metadata"], "name": "odd"}})

    def ours() -> bool:
        labels = bed.kubectl.get(*state)["metadata"].get("labels", {})
        return LABEL_COMPONENT_TYPE in labels

    wait_until(ours, 20, "the controller's state is taken over", seen=bed.said)


def rests(bed: Bed, count: int) -> bool:
    """Whether so many released addresses are noted on the pool."""
    noted = bed.kubectl.get("ipaddresspool", "all", "-n", SYSTEM)["metadata"]["annotations"]
    return str(noted.get(RESTING, "")).count(" 203.0.113.0 default/web") == count


def counted_up(bed: Bed, component: str) -> bool:
    found = bed.kubectl.get("events", "-n", "default")["items"]
    return any(
        event["source"].get("component") == component and event.get("count", 1) > 1
        for event in found
    )


def test_nothing_that_the_programs_ask_for_is_refused(lived: Bed) -> None:
    refused = {
        (part, request.verb, request.uri)
        for part in lived.accounts
        for request in lived.requests(part)
        if not request.allowed or request.code == 403
    }
    assert not refused


def test_each_right_is_needed(lived: Bed) -> None:
    """Something was asked for that this right allows and no other."""
    granted = rights(lived.items)
    assert not [right for right in granted if "*" in (right.verb, right.group, right.resource)]
    allowed_by = [
        [right for right in granted if right.part == part and right.covers(request)]
        for part in lived.accounts
        for request in lived.requests(part)
    ]
    needed = {rights[0] for rights in allowed_by if len(rights) == 1}
    assert granted == needed, "\n".join(map(str, sorted(granted - needed)))
