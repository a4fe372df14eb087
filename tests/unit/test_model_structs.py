"""Names, keys, annotations and the registry of kinds."""

import pytest

from clarion.model import annotations, kinds, metallb
from clarion.model.codec import encode
from clarion.model.core import Service
from clarion.model.meta import ObjectKey, ObjectMeta, kube_name


@pytest.mark.parametrize(
    ("python", "kubernetes"),
    [
        ("my_asn", "myASN"),
        ("dynamic_asn", "dynamicASN"),
        ("router_id", "routerID"),
        ("cluster_ip", "clusterIP"),
        ("cluster_ips", "clusterIPs"),
        ("load_balancer_ip", "loadBalancerIP"),
        ("external_ips", "externalIPs"),
        ("ip_mode", "ipMode"),
        ("ip_families", "ipFamilies"),
        ("ip_address_pools", "ipAddressPools"),
        ("avoid_buggy_ips", "avoidBuggyIPs"),
        ("aggregation_length_v6", "aggregationLengthV6"),
        ("assigned_ipv4", "assignedIPv4"),
        ("pod_cidrs", "podCIDRs"),
        ("disable_mp", "disableMP"),
        ("ebgp_multi_hop", "ebgpMultiHop"),
        ("minimum_ttl", "minimumTtl"),
        ("bfd_profile", "bfdProfile"),
        ("host_ip", "hostIP"),
        ("creation_timestamp", "creationTimestamp"),
    ],
)
def test_spelling(python: str, kubernetes: str) -> None:
    assert kube_name(python) == kubernetes


def test_defaults_are_left_out_but_the_kind_is_always_written() -> None:
    pool = metallb.IPAddressPool(metadata=ObjectMeta(name="p"))
    assert encode(pool) == (
        b'{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"p"}}'
    )


def test_zeros_of_a_pool_status_are_written() -> None:
    status = metallb.IPAddressPoolStatus(
        assigned_ipv4=0, assigned_ipv6=0, available_ipv4=0, available_ipv6=0
    )
    assert encode(status) == (
        b'{"assignedIPv4":0,"assignedIPv6":0,"availableIPv4":0,"availableIPv6":0}'
    )


def test_keys() -> None:
    service = Service(metadata=ObjectMeta(name="web", namespace="shop"))
    assert service.key == ObjectKey("shop", "web")
    assert str(service.key) == "shop/web"
    assert str(ObjectKey("", "node-1")) == "node-1"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"metallb.io/address-pool": "new"}, "new"),
        ({"metallb.universe.tf/address-pool": "old"}, "old"),
        ({"metallb.io/address-pool": "new", "metallb.universe.tf/address-pool": "old"}, "new"),
        ({"metallb.io/address-pool": "", "metallb.universe.tf/address-pool": "old"}, ""),
    ],
)
def test_annotation_precedence(given: dict[str, str], expected: str | None) -> None:
    service = Service(metadata=ObjectMeta(annotations=given))
    assert annotations.service_annotation(service, annotations.ADDRESS_POOL) == expected


def test_deprecated_annotations_are_listed() -> None:
    given = {"metallb.universe.tf/b": "", "metallb.universe.tf/a": "", "metallb.io/a": ""}
    service = Service(metadata=ObjectMeta(annotations=given))
    assert annotations.deprecated_annotations(service) == (
        "metallb.universe.tf/a",
        "metallb.universe.tf/b",
    )


def test_lookups() -> None:
    assert kinds.kind_named("BGPPeer") is kinds.BGP_PEER
    assert kinds.by_plural("metallb.io", "v1beta1", "bgppeers") is kinds.BGP_PEER_V1BETA1
    assert kinds.by_plural("", "v1", "services") is kinds.SERVICE
    assert kinds.by_plural("", "v1", "deployments") is None
    assert kinds.find_kind("discovery.k8s.io/v1", "EndpointSlice") is kinds.ENDPOINT_SLICE
    assert kinds.versions_of("metallb.io", "bgppeers") == (
        kinds.BGP_PEER,
        kinds.BGP_PEER_V1BETA1,
    )


def test_registry_agrees_with_the_structs() -> None:
    for kind in kinds.KINDS:
        empty = kind.struct()
        assert (empty.api_version, empty.kind) == (kind.api_version, kind.kind)
        assert kinds.kind_of(empty) is kind
        assert kind.plural == kind.plural.lower()
    custom = [kind for kind in kinds.KINDS if kind.custom]
    assert len(custom) == 11
    assert all(kind.status_subresource and kind.namespaced for kind in custom)
