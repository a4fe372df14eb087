"""Request bodies in Kubernetes' protobuf form, for the few kinds that kubectl sends so.

`kubectl create namespace|configmap|secret|service` and `kubectl auth can-i` use it. Answers are
always JSON, which those commands take too. Field numbers are those of the published
`generated.proto` files; fields that are not listed are refused, so that nothing is lost silently.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from clarion.apiserver.status import Json, bad_request, unsupported_media

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Field(msgspec.Struct, frozen=True):
    """One field: its JSON name and type.

    `kind` is `string`, `int`, `bool`, `bytes`, `time`, `int-or-string`, or the name of a message;
    `map` and `bytes-map` are maps from strings.
    """

    name: str
    kind: str = "string"
    repeated: bool = False


def _message(**fields: str) -> dict[int, _Field]:
    """A table from `name="3 kind"`; `name="3 kind*"` is repeated."""
    table = {}
    for name, text in fields.items():
        number, _, kind = text.partition(" ")
        repeated = kind.endswith("*")
        table[int(number)] = _Field(name, kind.removesuffix("*") or "string", repeated)
    return table


_MESSAGES: dict[str, dict[int, _Field]] = {
    "ObjectMeta": _message(
        name="1",
        generateName="2",
        namespace="3",
        selfLink="4",
        uid="5",
        resourceVersion="6",
        generation="7 int",
        creationTimestamp="8 time",
        deletionTimestamp="9 time",
        deletionGracePeriodSeconds="10 int",
        labels="11 map",
        annotations="12 map",
        ownerReferences="13 OwnerReference*",
        finalizers="14 string*",
    ),
    "OwnerReference": _message(
        kind="1",
        name="3",
        uid="4",
        apiVersion="5",
        controller="6 bool",
        blockOwnerDeletion="7 bool",
    ),
    "Namespace": _message(
        metadata="1 ObjectMeta", spec="2 NamespaceSpec", status="3 NamespaceStatus"
    ),
    "NamespaceSpec": _message(finalizers="1 string*"),
    "NamespaceStatus": _message(phase="1"),
    "ConfigMap": _message(
        metadata="1 ObjectMeta", data="2 map", binaryData="3 bytes-map", immutable="4 bool"
    ),
    "Secret": _message(
        metadata="1 ObjectMeta",
        data="2 bytes-map",
        type="3",
        stringData="4 map",
        immutable="5 bool",
    ),
    "Service": _message(metadata="1 ObjectMeta", spec="2 ServiceSpec", status="3 ServiceStatus"),
    "ServiceSpec": _message(
        ports="1 ServicePort*",
        selector="2 map",
        clusterIP="3",
        type="4",
        externalIPs="5 string*",
        sessionAffinity="7",
        loadBalancerIP="8",
        loadBalancerSourceRanges="9 string*",
        externalName="10",
        externalTrafficPolicy="11",
        healthCheckNodePort="12 int",
        publishNotReadyAddresses="13 bool",
        sessionAffinityConfig="14 SessionAffinityConfig",
        ipFamilyPolicy="17",
        clusterIPs="18 string*",
        ipFamilies="19 string*",
        allocateLoadBalancerNodePorts="20 bool",
        loadBalancerClass="21",
        internalTrafficPolicy="22",
        trafficDistribution="23",
    ),
    "ServicePort": _message(
        name="1",
        protocol="2",
        port="3 int",
        targetPort="4 int-or-string",
        nodePort="5 int",
        appProtocol="6",
    ),
    "SessionAffinityConfig": _message(clientIP="1 ClientIPConfig"),
    "ClientIPConfig": _message(timeoutSeconds="1 int"),
    "ServiceStatus": _message(loadBalancer="1 LoadBalancerStatus"),
    "LoadBalancerStatus": _message(ingress="1 LoadBalancerIngress*"),
    "LoadBalancerIngress": _message(ip="1", hostname="2", ipMode="3"),
    "SelfSubjectAccessReview": _message(
        metadata="1 ObjectMeta", spec="2 SelfSubjectAccessReviewSpec", status="3 AccessStatus"
    ),
    "SelfSubjectAccessReviewSpec": _message(
        resourceAttributes="1 ResourceAttributes", nonResourceAttributes="2 NonResourceAttributes"
    ),
    "ResourceAttributes": _message(
        namespace="1", verb="2", group="3", version="4", resource="5", subresource="6", name="7"
    ),
    "NonResourceAttributes": _message(path="1", verb="2"),
    "AccessStatus": _message(allowed="1 bool", reason="2", evaluationError="3", denied="4 bool"),
    "SelfSubjectRulesReview": _message(
        metadata="1 ObjectMeta", spec="2 SelfSubjectRulesReviewSpec", status="3 RulesStatus"
    ),
    "SelfSubjectRulesReviewSpec": _message(namespace="1"),
    "RulesStatus": _message(incomplete="3 bool", evaluationError="4"),
    "SelfSubjectReview": _message(metadata="1 ObjectMeta", status="2 SelfSubjectReviewStatus"),
    "SelfSubjectReviewStatus": _message(userInfo="1 UserInfo"),
    "UserInfo": _message(username="1", uid="2", groups="3 string*"),
    "DeleteOptions": _message(
        gracePeriodSeconds="1 int",
        preconditions="2 Preconditions",
        orphanDependents="3 bool",
        propagationPolicy="4",
        dryRun="5 string*",
    ),
    "Preconditions": _message(uid="1", resourceVersion="2"),
}

# Go writes these even when they are empty; in JSON an empty value would be a wrong one.
_EMPTY_MEANS_ABSENT = ("string", "int", "time")


def decode_protobuf(body: bytes) -> Json:
    """The JSON form of a protobuf body.

    Raises:
        ApiError: 400 malformed, or 415 a kind that is not known in this form.
    """
    if not body.startswith(_MAGIC):
        raise bad_request("the body of the request does not begin as Kubernetes protobuf does")
    try:
        return _decode_envelope(body[len(_MAGIC) :])
    except (IndexError, UnicodeDecodeError, OverflowError):
        raise bad_request("the body of the request is not valid protobuf") from None


def _decode_envelope(data: bytes) -> Json:
    envelope = dict(_fields(data))
    type_meta = dict(_fields(_as_bytes(envelope.get(1, b""))))
    api_version = _as_bytes(type_meta.get(1, b"")).decode()
    kind = _as_bytes(type_meta.get(2, b"")).decode()
    if kind not in _MESSAGES:
        raise unsupported_media(f"{MEDIA_TYPE} of {kind or 'an unnamed kind'}", "application/json")
    decoded = _decode_message(kind, _as_bytes(envelope.get(2, b"")))
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise bad_request("the body of the request is not valid protobuf")
    return value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise OverflowError


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and raw value of every field, in order.

    Raises:
        IndexError: the data ends too early.
    """
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise OverflowError
        if place + length > len(data):
            raise IndexError
        yield number, data[place : place + length]
        place += length


def _decode_message(kind: str, data: bytes) -> Json:
    table = _MESSAGES[kind]
    result: Json = {}
    for number, raw in _fields(data):
        field = table.get(number)
        if field is None:
            raise bad_request(
                f"field {number} of {kind} is not known in protobuf form; send JSON instead"
            )
        if field.kind in ("map", "bytes-map"):
            key, value = _map_entry(_as_bytes(raw), binary=field.kind == "bytes-map")
            result.setdefault(field.name, {})[key] = value
            continue
        value = _value(field, raw)
        if field.repeated:
            result.setdefault(field.name, []).append(value)
        elif value or field.kind not in _EMPTY_MEANS_ABSENT:
            result[field.name] = value
    return result


def _map_entry(data: bytes, *, binary: bool) -> tuple[str, str]:
    entry = {number: _as_bytes(value) for number, value in _fields(data)}
    value = entry.get(2, b"")
    text = base64.b64encode(value).decode() if binary else value.decode()
    return entry.get(1, b"").decode(), text


def _value(field: _Field, raw: int | bytes) -> Any:
    match field.kind:
        case "int":
            return _signed(raw)
        case "bool":
            return bool(raw)
        case "string":
            return _as_bytes(raw).decode()
        case "time":
            parts = dict(_fields(_as_bytes(raw)))
            seconds = _signed(parts.get(1, 0))
            moment = datetime.fromtimestamp(seconds, UTC) if seconds else None
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
        case "int-or-string":
            parts = dict(_fields(_as_bytes(raw)))
            if parts.get(1, 0) == 1:
                return _as_bytes(parts.get(3, b"")).decode()
            return _signed(parts.get(2, 0))
    return _decode_message(field.kind, _as_bytes(raw))


def _signed(raw: int | bytes) -> int:
    if isinstance(raw, bytes):
        raise OverflowError
    return raw - (1 << 64) if raw >= 1 << 63 else raw
