"""Selectors, ages, protobuf bodies, paths: what requests and answers look like."""

from datetime import UTC, datetime, timedelta

import pytest

from clarion.apiserver.protobuf import decode_protobuf
from clarion.apiserver.requests import Form, Position, read_accept, read_target
from clarion.apiserver.resources import core, groups
from clarion.apiserver.selectors import FieldSelector, LabelSelector
from clarion.apiserver.status import ApiError
from clarion.apiserver.store import Entry, Key
from clarion.apiserver.table import age
from clarion.apiserver.wire import encode, read_meta


@pytest.mark.parametrize(
    ("selector", "matching"),
    [
        ("", "abc"),
        ("app=web", "a"),
        ("app==web,tier=front", "a"),
        ("app!=web", "bc"),
        ("app", "ab"),
        ("!app", "c"),
        ("app in (web,db)", "ab"),
        ("app notin (web, db)", "c"),
        ("app in (web),tier notin (back)", "a"),
        ("size>3", "b"),
        ("size<3", "a"),
        ("example.com/x.y=1", "c"),
    ],
)
def test_label_selectors(selector: str, matching: str) -> None:
    objects = {
        "a": {"app": "web", "tier": "front", "size": "1"},
        "b": {"app": "db", "size": "12"},
        "c": {"example.com/x.y": "1", "size": "x"},
    }
    parsed = LabelSelector(selector)
    assert "".join(name for name, labels in objects.items() if parsed.matches(labels)) == matching


@pytest.mark.parametrize("selector", ["a b", "in (a)", "a in b", "a=b=c", "=", "a in (b/c)"])
def test_label_selectors_without_sense(selector: str) -> None:
    with pytest.raises(ApiError):
        LabelSelector(selector)


def test_field_selectors() -> None:
    body = encode({"metadata": {}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}})
    entry = Entry(Key("pods", "ns", "p"), 1, 0.0, body, read_meta(body))
    pods = core("pods")
    for text, wanted in (
        ("spec.nodeName=n1,status.phase!=Failed", True),
        ("spec.nodeName==n2", False),
        ("metadata.name=p,metadata.namespace=ns", True),
        ("metadata.name!=p", False),
        ("status.podIP=", True),
    ):
        assert FieldSelector(text, pods).matches(entry) is wanted, text
    assert FieldSelector("metadata.name=p", pods).name == "p"
    with pytest.raises(ApiError, match="field label not supported"):
        FieldSelector("spec.image=x", pods)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (10 * 60, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (50 * 3600, "2d2h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
        (-10, "<invalid>"),
    ],
)
def test_ages_as_kubectl_shows_them(seconds: int, shown: str) -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert age((now - timedelta(seconds=seconds)).isoformat(), now) == shown


def test_age_of_nothing() -> None:
    assert age(None, datetime(2024, 1, 1, tzinfo=UTC)) == "<unknown>"


def field(number: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    assert len(raw) < 128
    return bytes([number << 3 | 2, len(raw)]) + raw


def envelope(kind: str, raw: bytes) -> bytes:
    type_meta = field(1, "v1") + field(2, kind)
    return b"k8s\0" + field(1, type_meta) + field(2, raw) + field(3, "") + field(4, "")


def test_protobuf_body() -> None:
    meta = field(1, "web") + field(11, field(1, "app") + field(2, "web")) + field(8, b"")
    target = bytes([1 << 3, 1]) + field(3, "http")
    port = field(1, "http") + bytes([3 << 3, 80]) + field(4, target)
    raw = field(1, meta) + field(2, field(1, port) + field(4, "LoadBalancer"))
    assert decode_protobuf(envelope("Service", raw)) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        },
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"k8s\0", 415),
        (envelope("Deployment", b""), 415),
        (envelope("Namespace", b"\x0a\x7f"), 400),
        (envelope("Namespace", b"\xff" * 12), 400),
        (envelope("Namespace", field(9, "unknown")), 400),
        (envelope("ConfigMap", field(1, field(1, b"\xff"))), 400),
    ],
)
def test_protobuf_without_sense(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        decode_protobuf(body)
    assert refused.value.code == code


def test_paths() -> None:
    target = read_target("/apis/metallb.io/v1beta1/namespaces/ns/bgppeers/p/status")
    assert (target.resource.plural, target.kind.version) == ("bgppeers", "v1beta1")
    assert (target.namespace, target.name, target.subresource) == ("ns", "p", "status")
    assert read_target("/api/v1/namespaces/ns").name == "ns"
    assert read_target("/api/v1/namespaces/ns/finalize").subresource == "finalize"
    assert read_target("/api/v1/services").namespace == ""
    for wrong in (
        "/api/v1/namespaces/ns/services/s/scale",
        "/api/v1/namespaces/ns/nodes",
        "/api/v2/services",
        "/apis/metallb.io/v1beta2/namespaces/ns/communities",
        "/api/v1/services/s",
        "/api/v1/nodes/a/b/c",
    ):
        with pytest.raises(ApiError):
            read_target(wrong)
    assert groups()["metallb.io"] == ("v1beta2", "v1beta1")


def test_accept() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert read_accept(table) is Form.TABLE
    assert read_accept(table.replace("v=v1;", "v=v1beta1;")) is Form.OBJECT
    assert read_accept("application/json;as=PartialObjectMetadataList;v=v1") is Form.PARTIAL
    assert read_accept("") is Form.OBJECT


def test_continue_tokens() -> None:
    place = Position(7, "ns", "näme")
    assert Position.read(place.token()) == place
    for wrong in ("", "%", "e30", "bm90IGpzb24"):
        with pytest.raises(ApiError):
            Position.read(wrong)
