"""Every field of what BGP is configured by is honoured by a back end, or it says that it is not."""

from typing import Any

import msgspec
import pytest

from clarion.daemons.bfd import bfd_config
from clarion.daemons.frr import frr_config
from clarion.daemons.translate import bgp_route, peer_config
from clarion.decide.frrk8s import build_spec
from clarion.decide.planner import Planner
from clarion.decide.problems import Problem
from clarion.decide.snapshot import Backend, Options, Snapshot
from clarion.model.annotations import (
    BY_ENDPOINTS,
    CONVERSION_DATA,
    LINK_BANDWIDTH,
    MAX_PREFIXES,
    PASSIVE,
    READ_OF,
    TTL_SECURITY,
)
from clarion.model.meta import KubeObject, kube_name
from clarion.model.metallb import (
    BFDProfileSpec,
    BGPAdvertisementSpec,
    BGPPeerSpec,
    SecretReference,
)
from clarion.proto.frr.config import bfd_tree, bgp_tree
from clarion.testing import builders as b

BACK_ENDS: tuple[Backend, ...] = ("native", "frr", "frr-k8s")
PEER = b.peer("r", bfd_profile="fast")
SIX = b.peer("six", "2001:db8:1::1")
AD = b.bgp_advertisement("bgp")
PROFILE = b.bfd_profile("fast")
BASE: list[KubeObject] = [
    b.pool("p", "192.0.2.0/28", "2001:db8::/124", labels="tier=edge"),
    b.pool("q", "192.0.2.16/28"),
    PEER,
    SIX,
    AD,
    PROFILE,
    b.bfd_profile("slow", transmit_interval=900),
    b.secret("bgp", "s3cret"),
    b.node("n1", "zone=east"),
    b.service(
        "web",
        local=True,
        families=(4, 6),
        policy="RequireDualStack",
        ingress=("192.0.2.1", "2001:db8::1"),
    ),
    b.service("other", ingress=("192.0.2.17",)),
    b.endpoints("web", "n1", "n1"),
    b.endpoints("other", "n1"),
]
ELSEWHERE = b.selectors("zone=west")

PEER_FIELDS: dict[str, dict[str, Any]] = {
    "my_asn": {"my_asn": 64999},
    "peer_asn": {"peer_asn": 64999},
    "dynamic_asn": {"dynamic_asn": "external", "peer_asn": 0},
    "local_asn": {"local_asn": 64999},
    "peer_address": {"peer_address": "198.51.100.9"},
    "interface": {"interface": "eth1", "peer_address": ""},
    "source_address": {"source_address": "198.51.100.8"},
    "peer_port": {"peer_port": 1179},
    "hold_time": {"hold_time": "30s"},
    "keepalive_time": {"keepalive_time": "5s"},
    "connect_time": {"connect_time": "5s"},
    "router_id": {"router_id": "192.0.2.99"},
    "node_selectors": {"node_selectors": ELSEWHERE},
    "password": {"password": "hush"},
    "password_secret": {"password_secret": SecretReference(name="bgp")},
    "bfd_profile": {"bfd_profile": "slow"},
    "enable_graceful_restart": {"enable_graceful_restart": True},
    "ebgp_multi_hop": {"ebgp_multi_hop": True},
    "vrf": {"vrf": "red"},
    "disable_mp": {"disable_mp": True},
    "dual_stack_address_family": {"dual_stack_address_family": True},
}
AD_FIELDS: dict[str, dict[str, Any]] = {
    "aggregation_length": {"aggregation_length": 28},
    "aggregation_length_v6": {"aggregation_length_v6": 124},
    "local_pref": {"local_pref": 150},
    "communities": {"communities": ("1:1",)},
    "ip_address_pools": {"ip_address_pools": ("p",)},
    "ip_address_pool_selectors": {"ip_address_pool_selectors": b.selectors("tier=edge")},
    "node_selectors": {"node_selectors": ELSEWHERE},
    "peers": {"peers": ("six",)},
    "service_selectors": {"service_selectors": b.selectors("tier=web")},
}
PROFILE_FIELDS: dict[str, dict[str, Any]] = {
    "receive_interval": {"receive_interval": 200},
    "transmit_interval": {"transmit_interval": 200},
    "detect_multiplier": {"detect_multiplier": 5},
    "echo_interval": {"echo_interval": 200},
    "echo_mode": {"echo_mode": True},
    "passive_mode": {"passive_mode": True},
    "minimum_ttl": {"minimum_ttl": 200},
}
SPECS: list[tuple[type[msgspec.Struct], KubeObject, dict[str, dict[str, Any]]]] = [
    (BGPPeerSpec, PEER, PEER_FIELDS),
    (BGPAdvertisementSpec, AD, AD_FIELDS),
    (BFDProfileSpec, PROFILE, PROFILE_FIELDS),
]
ANNOTATIONS: dict[str, tuple[KubeObject, str]] = {
    PASSIVE: (PEER, "true"),
    TTL_SECURITY: (PEER, "1"),
    MAX_PREFIXES: (PEER, "10"),
    LINK_BANDWIDTH: (AD, BY_ENDPOINTS),
}
COMMUNITIES = (
    "1:1",
    "large:1:2:3",
    "no-export",
    "extended:rt:1:2",
    "extended:soo:192.0.2.1:2",
    "extended:0x030b000000000001",
)

# Honoured without being asked: the native speaker offers both families on every session.
ALWAYS = {("native", "dual_stack_address_family")}
TELLS = ("back-end-lacks", "field-deprecated")


def changed(obj: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(obj, spec=msgspec.structs.replace(obj.spec, **fields))


def annotated(obj: Any, key: str, value: str) -> Any:
    notes = {**obj.metadata.annotations, key: value}
    return msgspec.structs.replace(
        obj, metadata=msgspec.structs.replace(obj.metadata, annotations=notes)
    )


def decided(backend: Backend, *edits: KubeObject) -> Planner:
    objects = {(type(obj), obj.key): obj for obj in (*BASE, *edits)}
    planner = Planner(Options(backend=backend), node="n1")
    planner.load(Snapshot.from_objects(objects.values(), Options(backend=backend)))
    planner.refresh()
    return planner


def told(backend: Backend, planner: Planner) -> object:
    """All that a back end is told of what was decided."""
    peers, profiles = planner.peers, planner.config.bfd_profiles
    routes = {name: dict(planner.routes(name)) for name in peers}
    if backend == "frr":
        config = frr_config(peers, profiles, routes)
        return bgp_tree(config), bfd_tree(config)
    if backend == "frr-k8s":
        return build_spec("n1", peers, routes, profiles, b.CONFIG_NAMESPACE)
    return (
        {
            name: (
                msgspec.structs.asdict(peer_config(peer)),
                bfd_config(profiles[peer.bfd_profile]) if peer.bfd_profile else None,
                [bgp_route(route) for route in routes[name].values()],
            )
            for name, peer in peers.items()
        },
    )


def reported(problems: tuple[Problem, ...], path: str) -> list[Problem]:
    return [item for item in problems if item.code in TELLS and item.path == path]


# FRR has one router for all peers, and no echo where there is IPv6.
ALONG = {name: [changed(SIX, **PEER_FIELDS[name])] for name in ("my_asn", "router_id")}
GIVEN = {"echo_mode": [b.pool("p", "192.0.2.0/28")]}


def judge(backend: Backend, path: str, edit: KubeObject, field: str = "") -> None:
    """One of the two: the back end is told something else, or the user is."""
    given = GIVEN.get(field, [])
    before = decided(backend, *given)
    after = decided(backend, *given, edit, *ALONG.get(field, []))
    assert [item for item in after.problems if item.severity == "error"] == []
    differs = told(backend, before) != told(backend, after)
    says = reported(after.problems, path)
    assert differs or says, "neither honoured nor reported"
    for item in says:
        if item.code == "back-end-lacks":
            assert item.facts["backend"] == backend
            assert not differs or "no session" in item.message


def test_every_field_and_annotation_is_tried() -> None:
    for struct, _, fields in SPECS:
        assert set(fields) == set(struct.__struct_fields__)
    kinds = {"BGPPeer", "BGPAdvertisement", "BFDProfile"}
    read = {key for key, of in READ_OF.items() if kinds & set(of)}
    assert read == {*ANNOTATIONS, CONVERSION_DATA}


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize(
    ("obj", "field", "edit"),
    [(obj, field, edit) for _, obj, fields in SPECS for field, edit in fields.items()],
    ids=[f"{obj.kind}.{field}" for _, obj, fields in SPECS for field in fields],
)
def test_a_field_is_honoured_or_reported(
    backend: Backend, obj: KubeObject, field: str, edit: dict[str, Any]
) -> None:
    if (backend, field) not in ALWAYS:
        judge(backend, f"spec.{kube_name(field)}", changed(obj, **edit), field)


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("key", ANNOTATIONS)
def test_an_annotation_is_honoured_or_reported(backend: Backend, key: str) -> None:
    obj, value = ANNOTATIONS[key]
    judge(backend, f"metadata.annotations[{key}]", annotated(obj, key, value))


@pytest.mark.parametrize("backend", BACK_ENDS)
@pytest.mark.parametrize("community", COMMUNITIES)
def test_a_community_is_sent_or_reported(backend: Backend, community: str) -> None:
    judge(backend, "spec.communities", changed(AD, communities=(community,)))


@pytest.mark.parametrize("backend", BACK_ENDS)
def test_the_native_speaker_lacks_nothing(backend: Backend) -> None:
    edits = [changed(PEER, **edit) for name, edit in PEER_FIELDS.items() if name != "disable_mp"]
    edits += [annotated(obj, key, value) for key, (obj, value) in ANNOTATIONS.items()]
    lacking = [decided(backend, edit).problems for edit in edits]
    found = {item.path for items in lacking for item in items if item.code == "back-end-lacks"}
    assert bool(found) == (backend != "native")
