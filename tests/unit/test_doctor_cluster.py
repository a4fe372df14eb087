"""Checks of a cluster by `clarion doctor`, over facts as an API would give them."""

from typing import Any

import msgspec
import pytest

from clarion.decide.doctor import Finding, Unread, examine
from clarion.decide.doctor_cluster import (
    CLUSTER_CHECKS,
    NEEDED,
    Access,
    ClusterFacts,
    KubeProxy,
    PodFacts,
    WebhookFacts,
)
from clarion.decide.planner import plan
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.annotations import LABEL_SERVICE_NAME, LABEL_SERVICE_NAMESPACE
from clarion.model.codec import from_builtins
from clarion.model.core import CustomResourceDefinition, NodeAddress, NodeStatus
from clarion.model.meta import ObjectMeta, OwnerReference
from clarion.model.metallb import ServiceL2Status, ServiceL2StatusStatus
from clarion.model.schema import custom_resource_definitions
from clarion.testing import builders as b

SYSTEM = "metallb-system"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers="
DEFINITIONS = tuple(
    from_builtins(item, CustomResourceDefinition) for item in custom_resource_definitions()
)
SPEAKER = PodFacts(
    namespace=SYSTEM,
    name="speaker-x",
    node="n1",
    images=("registry.example.com/metallb/speaker:v0.15.3",),
)


def facts(*objects: Any, speakers: Any = ("n1", "n2"), **more: Any) -> ClusterFacts:
    base = [] if any(item.kind == "Node" for item in objects) else [b.node("n1"), b.node("n2")]
    snapshot = Snapshot.from_objects(
        [*base, b.pool("pool", "192.0.2.16/28"), b.l2_advertisement("l2"), *objects],
        Options(namespace=SYSTEM),
        speakers=speakers,
    )
    settings = {"definitions": DEFINITIONS, "skew": 0.0, "kube_proxy": KubeProxy("iptables", False)}
    return ClusterFacts(
        version="v1.37.2", snapshot=snapshot, plan=plan(snapshot), **{**settings, **more}
    )


def finding(code: str, item: ClusterFacts) -> Finding:
    return next(row for row in examine(CLUSTER_CHECKS, item) if row.code == code)


def told(service: str, node: str, owner: str = "Node", name: str = "l2-1") -> ServiceL2Status:
    labels = {LABEL_SERVICE_NAMESPACE: "default", LABEL_SERVICE_NAME: service}
    owners = (OwnerReference(api_version="v1", kind=owner, name="x", uid="1"),)
    return ServiceL2Status(
        metadata=ObjectMeta(name=name, namespace=SYSTEM, labels=labels, owner_references=owners),
        status=ServiceL2StatusStatus(
            node=node, service_name=service, service_namespace="default", interfaces=()
        ),
    )


def served(name: str, **changes: Any) -> tuple[CustomResourceDefinition, ...]:
    """The definitions with the last version of one of them changed."""
    return tuple(
        msgspec.structs.replace(
            item,
            spec=msgspec.structs.replace(
                item.spec,
                versions=(
                    *item.spec.versions[:-1],
                    msgspec.structs.replace(item.spec.versions[-1], **changes),
                ),
            ),
        )
        if item.name == name
        else item
        for item in DEFINITIONS
    )


def stored(*versions: str) -> tuple[CustomResourceDefinition, ...]:
    return tuple(
        msgspec.structs.replace(
            item, status=msgspec.structs.replace(item.status, stored_versions=versions)
        )
        if item.name == "bgppeers.metallb.io"
        else item
        for item in DEFINITIONS
    )


def needs(program: str) -> tuple[Access, ...]:
    return tuple(item for item in NEEDED if item.program == program)


HOOK = WebhookFacts(configuration="hooks", name="pools", service="ns/hook", fails=True)
WEB = b.service("web", ingress=["192.0.2.17"])
CASES = [
    ("second-announcer", facts(), "ok", "no Pod"),
    ("second-announcer", facts(pods=(SPEAKER,)), "failed", "MetalLB speaker on n1"),
    (
        "second-announcer",
        facts(pods=(PodFacts(namespace="x", name="y", images=("frrouting/frr:10",)),)),
        "warning",
        "FRR on no node",
    ),
    ("second-announcer", facts(pods=Unread("forbidden")), "skipped", "forbidden"),
    ("second-configuration", facts(foreign=("CiliumLoadBalancerIPPool blue",)), "failed", "blue"),
    ("frr-leftovers", facts(leftovers=("FRRConfiguration a/metallb-n1",)), "failed", "metallb-n1"),
    ("frr-leftovers", facts(leftovers=("x",), pods=(SPEAKER,)), "ok", "still keep them"),
    ("status-writers", facts(statuses=(told("web", "n1"),)), "ok", "1 services"),
    ("status-writers", facts(statuses=(told("web", "n1", "Pod"),)), "warning", "l2-1"),
    (
        "status-writers",
        facts(statuses=(told("web", "n1", "Pod"), told("web", "n2", name="l2-2"))),
        "failed",
        "default/web by n1 and n2",
    ),
    ("definitions", facts(), "ok", "10 definitions"),
    ("definitions", facts(definitions=DEFINITIONS[1:]), "failed", "bfdprofiles.metallb.io"),
    (
        "definitions",
        facts(definitions=tuple(item for item in DEFINITIONS if "bgpsessions" not in item.name)),
        "warning",
        "bgpsessions.clarion.metallb.io is not served as v1beta1",
    ),
    (
        "definitions",
        facts(definitions=served("bgppeers.metallb.io", served=False)),
        "failed",
        "bgppeers.metallb.io is not served as v1beta2",
    ),
    ("definitions", facts(definitions=stored("v1beta1", "v1beta2")), "warning", "as v1beta1"),
    ("webhooks", facts(webhooks=(HOOK,)), "failed", "hooks asks ns/hook"),
    (
        "webhooks",
        facts(webhooks=(msgspec.structs.replace(HOOK, fails=False),)),
        "warning",
        "passed over: hooks/pools",
    ),
    ("webhooks", facts(b.endpoints("ns/hook", "n1"), webhooks=(HOOK,)), "ok", "1 webhooks"),
    ("permissions", facts(), "ok", "enough for the controller and the speaker"),
    ("permissions", facts(denied=NEEDED[:1]), "failed", "both: list namespaces"),
    ("permissions", facts(denied=needs("controller")), "ok", "enough for the speaker"),
    (
        "permissions",
        facts(denied=needs("controller") + needs("speaker")),
        "failed",
        "controller: get configurationstates controller",
    ),
    ("clock", facts(skew=-90.0), "warning", "-90.0 s ahead"),
    ("clock", facts(skew=Unread("forbidden")), "skipped", "forbidden"),
    ("nodes", facts(), "ok", "all 2"),
    ("nodes", facts(b.node("n1", EXCLUDED), b.node("n2")), "warning", "n1: label exclude"),
    ("nodes", facts(b.node("n1", EXCLUDED)), "failed", "no node may announce"),
    ("speakers", facts(), "ok", "alive on all 2"),
    ("speakers", facts(speakers=("n1",)), "warning", "none lives on n2"),
    ("speakers", facts(speakers=None), "skipped", "no speaker"),
    ("kube-proxy", facts(kube_proxy=KubeProxy("ipvs", False)), "failed", "without strictARP"),
    ("kube-proxy", facts(kube_proxy=KubeProxy("ipvs", True)), "ok", "mode ipvs"),
    ("kube-proxy", facts(kube_proxy=None), "skipped", "kube-proxy"),
    ("configuration", facts(b.pool("bad", "nonsense")), "failed", "IPAddressPool"),
    ("pending", facts(b.service("web")), "failed", "does a controller run?"),
    (
        "pending",
        facts(b.service("web", annotations={"metallb.io/address-pool": "gone"})),
        "failed",
        "default/web: it asks for pool gone",
    ),
    ("pending", facts(WEB), "ok", "has its addresses"),
    ("announced", facts(WEB, b.endpoints("web", "n1")), "ok", "by some node"),
    ("announced", facts(WEB), "warning", "default/web"),
    (
        "announced",
        facts(
            b.node("n1"),
            b.node("n2", EXCLUDED),
            b.service("web", ingress=["192.0.2.17"], external_traffic_policy="Local"),
            b.endpoints("web", "n2"),
        ),
        "warning",
        "default/web",
    ),
]


@pytest.mark.parametrize(
    ("code", "item", "verdict", "says"),
    CASES,
    ids=[f"{row[0]} {row[2]} {index}" for index, row in enumerate(CASES)],
)
def test_cluster(code: str, item: ClusterFacts, verdict: str, says: str) -> None:
    got = finding(code, item)
    assert (got.verdict, says in got.says) == (verdict, True), got.says


def test_a_pool_over_the_nodes_addresses_is_told() -> None:
    address = NodeAddress(type="InternalIP", address="192.0.2.20")
    node = msgspec.structs.replace(b.node("n1"), status=NodeStatus(addresses=(address,)))
    got = finding("overlaps", facts(node))
    assert got.verdict == "warning"
    assert "n1" in got.says


def test_services_of_another_class_are_not_ours_to_judge() -> None:
    other = b.service("other", load_balancer_class="example.com/x")
    assert finding("pending", facts(other)).verdict == "ok"


def test_every_check_can_say_ok() -> None:
    healthy = facts(WEB, b.endpoints("web", "n1"))
    assert {item.verdict for item in examine(CLUSTER_CHECKS, healthy)} == {"ok"}
