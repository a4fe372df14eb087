"""JSON to objects: what programs in Go write, what is broken, and lists with a bad item."""

import json
import subprocess
import sys

import pytest

from clarion.model import codec, core, kinds
from clarion.model.meta import KubeList, ObjectKey
from clarion.model.metallb import IPAddressPool


def test_an_object_by_its_kind() -> None:
    pool = codec.decode_object(
        b'{"apiVersion":"metallb.io/v1beta1","kind":"IPAddressPool","metadata":{"name":"p",'
        b'"managedFields":[{"manager":"x"}]},"spec":{"addresses":["192.0.2.0/24"],"new":1}}'
    )
    assert isinstance(pool, IPAddressPool)
    assert pool.spec.addresses == ("192.0.2.0/24",)
    assert codec.object_from_builtins(codec.to_builtins(pool)) == pool


def test_nulls_count_as_absent() -> None:
    page = codec.decode_list_items(
        b'{"metadata":{"resourceVersion":"7","continue":"t"},"items":[{"metadata":{"name":"s",'
        b'"creationTimestamp":null,"labels":null},"addressType":"IPv4","endpoints":null,'
        b'"ports":null}]}',
        kinds.ENDPOINT_SLICE,
    )
    (found,) = page.items
    assert (found.endpoints, found.ports, found.metadata.labels) == ((), (), {})
    assert (page.metadata.resource_version, page.metadata.continue_) == ("7", "t")
    empty = codec.decode_list_items(b'{"metadata":{},"items":null}', kinds.SERVICE)
    assert empty.items == ()


def test_a_bad_item_does_not_spoil_the_list() -> None:
    page = codec.decode_list_items(
        b'{"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b","namespace":"n"},'
        b'"spec":{"ports":"x"}},{"metadata":3},{"metadata":{"name":"c"}}]}',
        kinds.SERVICE,
    )
    assert [item.name for item in page.items] == ["a", "c"]
    assert [rejected.key for rejected in page.rejected] == [ObjectKey("n", "b"), ObjectKey("", "")]
    assert "spec.ports" in page.rejected[0].message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"\xff",
        b'{"kind":3}',
        b'{"apiVersion":"v1","kind":"Strange"}',
        b'{"apiVersion":"v1","kind":"Service","spec":3}',
        b'{"apiVersion":"v1","kind":"Service","metadata":{"name":"\xff"}}',
        b'{"apiVersion":"v1","kind":"Service","x":' + b"[" * 100_000,
    ],
)
def test_only_one_kind_of_error_comes_out(data: bytes) -> None:
    with pytest.raises(codec.UndecodableError):
        codec.decode_object(data)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"items":3}', b"nonsense"])
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(codec.UndecodableError):
        codec.decode_list_items(data, kinds.NODE)


def test_watch_events_keep_the_object_as_bytes() -> None:
    event = codec.decode_watch_event(b'{"type":"ADDED","object":{"metadata":{"name":"n"}}}')
    assert event.type == "ADDED"
    assert codec.decode(event.object, core.Node).key == ObjectKey("", "n")
    with pytest.raises(codec.UndecodableError):
        codec.decode_watch_event(b"{}x")


def test_lists_are_written_as_the_api_writes_them() -> None:
    page = KubeList[core.Namespace](kind="NamespaceList", items=(core.Namespace(),))
    assert json.loads(codec.encode(page)) == {
        "apiVersion": "v1",
        "kind": "NamespaceList",
        "items": [{"apiVersion": "v1", "kind": "Namespace"}],
    }


def test_the_objects_are_imported_without_what_only_manifests_need() -> None:
    program = "import sys, clarion.model.codec; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = set(done.stdout.decode().split())
    assert not loaded & {"yaml", "difflib", "clarion.model.schema", "clarion.model.manifests"}
