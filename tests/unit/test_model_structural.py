"""Judging, completing and pruning by schema."""

from typing import Any

import pytest

from clarion.model import kinds
from clarion.model.schema import object_schema, openapi_schema
from clarion.model.structural import apply_defaults, prune, validate

PEER = object_schema(kinds.BGP_PEER)
POOL = object_schema(kinds.IP_ADDRESS_POOL)
SERVICE = object_schema(kinds.SERVICE)
ADVERTISEMENT = object_schema(kinds.BGP_ADVERTISEMENT)


def found(schema: dict[str, Any], value: Any, **options: Any) -> list[tuple[str, str]]:
    errors = validate(schema, value, unknown_fields=True, **options)
    return [(error.code, error.path) for error in errors]


def test_all_faults_at_once_in_the_order_of_the_document() -> None:
    peer = {
        "metadata": {"labels": {"a": 1}, "lables": {}},
        "spec": {
            "peerPort": 70000,
            "myAsn": 1,
            "dynamicASN": "both",
            "nodeSelectors": [{"matchExpressions": [{"key": "k"}]}],
            "connectTime": "1500ms",
        },
    }
    assert found(PEER, peer) == [
        ("WrongType", "metadata.labels[a]"),
        ("UnknownField", "metadata.lables"),
        ("OutOfRange", "spec.peerPort"),
        ("UnknownField", "spec.myAsn"),
        ("NotAllowed", "spec.dynamicASN"),
        ("MissingField", "spec.nodeSelectors[0].matchExpressions[0].operator"),
        ("RuleBroken", "spec.connectTime"),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ipaddresspools", "ipAddressPools"),
        ("ipAddressPool", "ipAddressPools"),
        ("agregationLength", "aggregationLength"),
        ("communites", "communities"),
    ],
)
def test_the_name_that_was_meant(written: str, meant: str) -> None:
    (error,) = validate(ADVERTISEMENT, {"spec": {written: []}}, unknown_fields=True)
    assert error.remedy == f"did you mean {meant}?"


def test_a_strange_name_lists_the_fields_that_exist() -> None:
    (error,) = validate(POOL, {"spec": {"addresses": [], "qqq": 1}}, unknown_fields=True)
    assert error.remedy == (
        "the fields here are: addresses, autoAssign, avoidBuggyIPs, serviceAllocation"
    )


def test_core_kinds_keep_what_we_do_not_know_but_not_a_misspelling_of_what_we_do() -> None:
    service = {"spec": {"somethingNew": 1, "externaltrafficPolicy": "Local"}}
    assert found(SERVICE, service) == [("UnknownField", "spec.externaltrafficPolicy")]


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        ({"type": "integer"}, 1.0, True),
        ({"type": "integer"}, 1.5, False),
        ({"type": "integer"}, True, False),
        ({"type": "integer"}, "1", False),
        ({"type": "boolean"}, 0, False),
        ({"type": "integer", "format": "int32"}, 2**31 - 1, True),
        ({"type": "integer", "format": "int32"}, 2**31, False),
        ({"type": "integer", "format": "int64"}, 2**63, False),
        ({"type": "string", "nullable": True}, None, True),
        ({"type": "string"}, None, False),
        ({"x-kubernetes-int-or-string": True}, "http", True),
        ({"x-kubernetes-int-or-string": True}, 80, True),
        ({"x-kubernetes-int-or-string": True}, [80], False),
        ({"type": "string", "format": "date-time"}, "2024-02-03T04:05:06.789Z", True),
        ({"type": "string", "format": "date-time"}, "2024-02-03T04:05:06+01:00", True),
        ({"type": "string", "format": "date-time"}, "2024-02-03 04:05:06", False),
        ({"type": "string", "pattern": "^a+$"}, "aab", False),
        ({"type": "string", "maxLength": 2}, "abc", False),
        ({"type": "array", "minItems": 1}, [], False),
        ({"type": "array", "x-kubernetes-list-type": "set"}, ["a", "a"], False),
    ],
)
def test_keywords(schema: dict[str, Any], value: Any, valid: bool) -> None:
    assert (validate(schema, value) == []) is valid


def test_the_same_port_twice() -> None:
    ports = [{"port": 53}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert found(SERVICE, {"spec": {"ports": ports}}) == [("DuplicateItem", "spec.ports[2]")]


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ({}, True),
        ({"serviceSelectors": [{}]}, True),
        ({"serviceSelectors": [{}], "aggregationLength": 32, "aggregationLengthV6": 128}, True),
        ({"serviceSelectors": [], "aggregationLength": 24}, True),
        ({"serviceSelectors": [{}], "aggregationLength": 24}, False),
        ({"serviceSelectors": [{}], "aggregationLengthV6": 64}, False),
    ],
)
def test_service_selectors_and_aggregation(spec: dict[str, Any], valid: bool) -> None:
    assert (found(ADVERTISEMENT, {"spec": spec}) == []) is valid


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1s", True),
        ("65535s", True),
        ("18h", True),
        ("0s", False),
        ("18h13m", False),
        ("2500ms", False),
        ("soon", False),
    ],
)
def test_connect_time(text: str, valid: bool) -> None:
    assert (found(PEER, {"spec": {"myASN": 1, "connectTime": text}}) == []) is valid


@pytest.mark.parametrize(
    ("old", "new", "valid"),
    [
        ({}, {"enableGracefulRestart": True}, True),
        ({"enableGracefulRestart": True}, {}, True),
        ({"enableGracefulRestart": True}, {"enableGracefulRestart": True}, True),
        ({"enableGracefulRestart": True}, {"enableGracefulRestart": False}, False),
    ],
)
def test_what_is_set_once(old: dict[str, Any], new: dict[str, Any], valid: bool) -> None:
    errors = found(PEER, {"spec": {"myASN": 1, **new}}, old={"spec": {"myASN": 1, **old}})
    assert (errors == []) is valid


def test_defaults() -> None:
    given: dict[str, Any] = {"spec": {"addresses": ["192.0.2.0/24"], "autoAssign": None}}
    assert apply_defaults(POOL, given) == {
        "spec": {"addresses": ["192.0.2.0/24"], "autoAssign": True, "avoidBuggyIPs": False}
    }
    assert given["spec"]["autoAssign"] is None, "the argument is left alone"
    service = {"spec": {"ports": [{"port": 80, "protocol": None}], "selector": None}}
    assert apply_defaults(SERVICE, service)["spec"] == {
        "ports": [{"port": 80, "protocol": "TCP"}],
        "type": "ClusterIP",
        "sessionAffinity": "None",
    }


def test_pruning() -> None:
    given = {
        "apiVersion": "metallb.io/v1beta2",
        "kind": "BGPPeer",
        "metadata": {"name": "x", "labels": {"a": "b"}, "strange": 1},
        "spec": {"vrf": "red", "strange": {"deep": 1}, "nodeSelectors": [{"matchLabels": {}}]},
        "strange": True,
    }
    assert prune(PEER, given) == {
        "apiVersion": "metallb.io/v1beta2",
        "kind": "BGPPeer",
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"vrf": "red", "nodeSelectors": [{"matchLabels": {}}]},
    }
    service = {"metadata": {}, "spec": {"strange": [1]}}
    assert prune(SERVICE, service) == service


def test_the_schema_of_a_definition_leaves_metadata_to_the_api() -> None:
    schema = openapi_schema(kinds.COMMUNITY)
    given = {"metadata": {"name": "x", "anything": 1}, "spec": {"communities": {"a": [{"b": 1}]}}}
    assert found(schema, given) == [("WrongType", "spec.communities")]
    assert prune(schema, given)["metadata"] == given["metadata"]


def test_pruning_leaves_a_list_in_the_wrong_place_to_be_judged() -> None:
    assert prune(POOL, {"spec": ["a"]}) == {"spec": ["a"]}
