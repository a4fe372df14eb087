"""Patch formats as tables: RFC 7386, strategic merge, and sets of managed fields."""

from typing import Any

import pytest

from clarion.apiserver import fields
from clarion.apiserver.coreschema import build
from clarion.apiserver.fieldset import (
    compare,
    difference,
    fields_of,
    from_v1,
    intersection,
    merge,
    paths,
    remove,
    to_v1,
    union,
)
from clarion.apiserver.patch import merge as json_merge
from clarion.apiserver.patch import read_configuration, read_patch
from clarion.apiserver.status import ApiError
from clarion.apiserver.strategic import merge_strategic
from clarion.apiserver.validate import schema_of
from clarion.apiserver.wire import encode
from clarion.model import kinds

SERVICE = schema_of(kinds.SERVICE)


# RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, wanted: Any) -> None:
    assert json_merge(target, patch) == wanted


def ports(*items: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"ports": list(items)}}


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
TLS = {"name": "https", "port": 443, "protocol": "TCP"}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [
        # A keyed list is merged item by item.
        (
            ports(HTTP, TLS),
            ports({"port": 80, "nodePort": 30080}),
            ports({**HTTP, "nodePort": 30080}, TLS),
        ),
        # What is new goes before what the patch does not name.
        (ports(HTTP), ports(TLS), ports(TLS, HTTP)),
        (ports(HTTP, TLS), ports({"port": 80, "$patch": "delete"}), ports(TLS)),
        (ports(HTTP, TLS), ports({"$patch": "replace"}, DNS), ports(DNS)),
        # What kubectl apply sends: deletions and the wanted order.
        (
            ports(HTTP, TLS),
            {
                "spec": {
                    "$setElementOrder/ports": [{"port": 53}, {"port": 443}],
                    "ports": [DNS, {"port": 80, "$patch": "delete"}],
                }
            },
            ports(DNS, TLS),
        ),
        # Items that the order does not name keep their place among the others.
        (
            ports(HTTP, DNS, TLS),
            {"spec": {"$setElementOrder/ports": [{"port": 443}, {"port": 80}]}},
            ports(DNS, TLS, HTTP),
        ),
        # Lists without a key are replaced.
        (
            {"spec": {"externalIPs": ["a"]}},
            {"spec": {"externalIPs": ["b"]}},
            {"spec": {"externalIPs": ["b"]}},
        ),
        # Lists of plain values with the merge strategy are united.
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b"]}},
            {"metadata": {"finalizers": ["b", "a"]}},
        ),
        (
            {"metadata": {"finalizers": ["a", "b"]}},
            {
                "metadata": {
                    "$deleteFromPrimitiveList/finalizers": ["a"],
                    "$setElementOrder/finalizers": ["c", "b"],
                    "finalizers": ["c"],
                }
            },
            {"metadata": {"finalizers": ["c", "b"]}},
        ),
        # Maps: fields, deletion, replacement, and keeping only some.
        (
            {"spec": {"selector": {"a": "1", "b": "2"}}},
            {"spec": {"selector": {"a": None}}},
            {"spec": {"selector": {"b": "2"}}},
        ),
        (
            {"spec": {"selector": {"a": "1"}}},
            {"spec": {"selector": {"$patch": "replace", "b": "2"}}},
            {"spec": {"selector": {"b": "2"}}},
        ),
        (
            {"spec": {"selector": {"a": "1"}, "type": "x"}},
            {"spec": {"selector": {"$patch": "delete"}}},
            {"spec": {"type": "x"}},
        ),
        (
            {"spec": {"type": "ExternalName", "externalName": "x"}},
            {"spec": {"$retainKeys": ["type"], "type": "ClusterIP"}},
            {"spec": {"type": "ClusterIP"}},
        ),
    ],
)
def test_strategic_merge_patch(target: Any, patch: Any, wanted: Any) -> None:
    assert merge_strategic(SERVICE, target, patch) == wanted


@pytest.mark.parametrize(
    "patch",
    [
        ports({"name": "no key"}),
        {"spec": {"$patch": "explode"}},
        {"spec": {"$retainKeys": "type"}},
        {"spec": {"$retainKeys": ["type"], "clusterIP": "x"}},
        {"spec": {"$setElementOrder/ports": {}}},
    ],
)
def test_strategic_merge_patch_without_sense(patch: Any) -> None:
    with pytest.raises(ApiError) as refused:
        merge_strategic(SERVICE, ports(HTTP), patch)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (b'[{"op":"nothing","path":"/a"}]', 422),
        (b'[{"op":"add"}]', 422),
        (b'[{"op":"remove","path":"/absent"}]', 422),
        (b'[{"op":"test","path":"/a","value":2}]', 422),
        (b'[{"op":"add","path":"/a/b/c","value":2}]', 422),
        (b'[{"op":"replace","path":"","value":7}]', 400),
    ],
)
def test_json_patch_refusals(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        read_patch("application/json-patch+json", body, kinds.SERVICE)({"a": 1})
    assert refused.value.code == code


def test_configuration_is_one_object_in_yaml() -> None:
    assert read_configuration(b"a: {b: [1, c]}\n") == {"a": {"b": [1, "c"]}}
    assert read_configuration(encode({"a": 1})) == {"a": 1}
    for wrong in (b"a: 1\n---\nb: 2\n", b"- a\n", b"a: [\n", b"\xff", b""):
        with pytest.raises(ApiError) as refused:
            read_configuration(wrong)
        assert refused.value.code == 400


def test_set_algebra() -> None:
    one = fields_of(SERVICE, {"spec": {"type": "x", "ports": [HTTP]}})
    other = fields_of(SERVICE, {"spec": {"type": "x", "clusterIP": "y", "ports": [TLS]}})
    assert from_v1(to_v1(one)) == one
    assert list(paths(one)) == [
        '.spec.ports[port=80,protocol="TCP"]',
        '.spec.ports[port=80,protocol="TCP"].name',
        '.spec.ports[port=80,protocol="TCP"].port',
        '.spec.ports[port=80,protocol="TCP"].protocol',
        ".spec.type",
    ]
    assert list(paths(intersection(one, other))) == [".spec.type"]
    assert union(difference(one, other), intersection(one, other)) == one
    assert difference(union(one, other), other) == difference(one, other)
    assert not difference(one, union(other, one))


def test_taking_apart_and_putting_together() -> None:
    live = {
        "spec": {"type": "x", "selector": {"a": "1"}, "ports": [{**HTTP, "nodePort": 30080}, DNS]}
    }
    wanted = {"spec": {"selector": {"b": "2"}, "ports": [TLS, {"port": 80, "name": "web"}]}}
    merged = merge(SERVICE, live, wanted)
    assert merged["spec"]["selector"] == {"b": "2"}
    assert merged["spec"]["ports"] == [{**HTTP, "name": "web", "nodePort": 30080}, DNS, TLS]
    found = compare(SERVICE, live, merged)
    assert '.spec.ports[port=80,protocol="TCP"].name' in set(paths(found.changed))
    assert ".spec.selector" in set(paths(found.changed))
    assert not found.removed
    # Removing the item of a list removes what nobody manages in it, unless others manage a part.
    item = fields_of(SERVICE, ports({"port": 80, "name": "web"}))
    assert remove(SERVICE, merged, item, {})["spec"]["ports"] == [DNS, TLS]
    kept = fields_of(SERVICE, ports({"port": 80, "nodePort": 30080}))
    left = remove(SERVICE, merged, difference(item, kept), kept)["spec"]["ports"]
    assert left[0] == {"port": 80, "protocol": "TCP", "nodePort": 30080}


def test_unschemed_parts_are_granular_maps_and_whole_lists() -> None:
    value = {"a": {"b": [1, 2], "c": {}}}
    assert list(paths(fields_of(build("value"), value))) == [".a", ".a.b", ".a.c"]


def author(manager: str) -> fields.Author:
    return fields.Author(manager, "v1", "", "2024-01-01T00:00:00Z")


def test_apply_and_update_share_the_record() -> None:
    def config(**spec: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}

    made = fields.apply(SERVICE, None, config(type="x", externalName="e"), author("a"), force=False)
    # An update takes over what it changes and leaves the rest.
    new = {**made, "metadata": dict(made["metadata"]), "spec": {**made["spec"], "type": "y"}}
    fields.track(SERVICE, made, new, author("u"))
    by_manager = {
        entry["manager"]: list(paths(from_v1(entry["fieldsV1"])))
        for entry in new["metadata"]["managedFields"]
    }
    assert by_manager == {"a": [".spec.externalName"], "u": [".spec.type"]}
    with pytest.raises(ApiError) as refused:
        fields.apply(SERVICE, new, config(type="x", externalName="e"), author("a"), force=False)
    assert refused.value.code == 409
    assert (
        refused.value.text == 'Apply failed with 1 conflict: conflict with "u" using v1: .spec.type'
    )
    # Giving a field up does not remove it while another manages it.
    left = fields.apply(SERVICE, new, config(externalName="e"), author("a"), force=False)
    assert left["spec"] == {"type": "y", "externalName": "e"}
    last = fields.apply(SERVICE, left, config(), author("a"), force=False)
    assert last["spec"] == {"type": "y"}
