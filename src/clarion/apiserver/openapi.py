"""OpenAPI v3: an index, and one document per group and version.

`kubectl explain` reads the schemas; `kubectl apply` reads merge keys from them, and from the
operations which parameters and patch formats the server understands.
"""

import hashlib
from functools import cache
from typing import Any

from clarion.apiserver.coreschema import OBJECT_META
from clarion.apiserver.discovery import MAJOR, MINOR, PATCH, all_groups
from clarion.apiserver.patch import formats_of
from clarion.apiserver.resources import Resource, resources
from clarion.apiserver.status import Json
from clarion.apiserver.validate import schema_of
from clarion.apiserver.wire import encode
from clarion.model.kinds import Kind

_META_NAME = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_LIST_META_NAME = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
_GVK = "x-kubernetes-group-version-kind"
_ACTION = "x-kubernetes-action"

_LIST_META: Json = {
    "type": "object",
    "description": "Version of a list, and how to go on with it.",
    "properties": {
        "resourceVersion": {"type": "string"},
        "continue": {"type": "string"},
        "remainingItemCount": {"type": "integer", "format": "int64"},
        "selfLink": {"type": "string"},
    },
}

VERSION = f"v{MAJOR}.{MINOR}.{PATCH}"

_PACKAGES = {
    "": "io.k8s.api.core",
    "discovery.k8s.io": "io.k8s.api.discovery",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}


V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""As it is answered; clients ask with an `@` for the second dot, which no media type may hold."""

_TITLE = "Clarion embedded API"


def v2_json() -> bytes:
    """The answer to /openapi/v2: a document without schemas, which are in v3 only.

    kubectl asks for it before it sends the items of a List, and takes what is not described there
    as fit to be sent: the server judges.
    """
    return encode({"swagger": "2.0", "info": {"title": _TITLE, "version": VERSION}, "paths": {}})


def v2_protobuf() -> bytes:
    """The same as kubectl asks for it: messages Document and Info of gnostic's OpenAPIv2.proto."""
    info = _protobuf_text(1, _TITLE) + _protobuf_text(2, VERSION)
    return _protobuf_text(1, "2.0") + _protobuf_bytes(2, info)


def _protobuf_text(number: int, value: str) -> bytes:
    return _protobuf_bytes(number, value.encode())


def _protobuf_bytes(number: int, value: bytes) -> bytes:
    """A length-delimited field; a length below 128 is one byte."""
    assert len(value) < 128
    return bytes((number << 3 | 2, len(value))) + value


@cache
def index() -> bytes:
    """The answer to /openapi/v3."""
    paths = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(path)}"}
        for path in _documents()
    }
    return encode({"paths": paths})


def document(path: str) -> bytes | None:
    """The answer to /openapi/v3/PATH; None if there is none."""
    return _documents().get(path)


def _hash(path: str) -> str:
    return hashlib.sha256(_documents()[path]).hexdigest()[:32].upper()


@cache
def _documents() -> dict[str, bytes]:
    found = {"api/v1": encode(_document("", "v1"))}
    for group, versions in all_groups().items():
        for version in versions:
            found[f"apis/{group}/{version}"] = encode(_document(group, version))
    return found


def _document(group: str, version: str) -> Json:
    schemas: Json = {
        _META_NAME: {"description": "Identity and labels of an object.", **OBJECT_META},
        _LIST_META_NAME: _LIST_META,
    }
    paths: Json = {}
    for resource in resources().values():
        if resource.group == group and version in resource.versions:
            kind = resource.versions[version]
            name = _schema_name(kind)
            schemas[name] = _object_schema(kind)
            schemas[f"{name}List"] = _list_schema(kind, name)
            paths |= _paths(resource, kind, name)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Clarion", "version": f"v{MAJOR}.{MINOR}.{PATCH}"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _schema_name(kind: Kind) -> str:
    package = _PACKAGES.get(kind.group) or ".".join(reversed(kind.group.split(".")))
    return f"{package}.{kind.version}.{kind.kind}"


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _gvk(kind: Kind, suffix: str = "") -> Json:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind + suffix}


def _object_schema(kind: Kind) -> Json:
    schema = dict(schema_of(kind))
    meta = {"description": "Identity, labels and annotations.", "allOf": [_reference(_META_NAME)]}
    schema["properties"] = schema["properties"] | {"metadata": meta}
    schema[_GVK] = [_gvk(kind)]
    return schema


def _list_schema(kind: Kind, name: str) -> Json:
    return {
        "type": "object",
        "description": f"A list of {kind.kind} objects.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [_reference(_LIST_META_NAME)]},
            "items": {"type": "array", "items": _reference(name)},
        },
        "required": ["items"],
        _GVK: [_gvk(kind, "List")],
    }


def _paths(resource: Resource, kind: Kind, name: str) -> Json:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    collection = f"{root}/{resource.plural}"
    found: Json = {}
    if resource.namespaced:
        found[collection] = {"get": _operation(kind, name + "List", "list")}
        collection = f"{root}/namespaces/{{namespace}}/{resource.plural}"
    found[collection] = {
        "get": _operation(kind, name + "List", "list"),
        "post": _write(kind, name, "post", ("application/json",)),
        "delete": _operation(kind, name, "deletecollection"),
    }
    item: Json = {
        "get": _operation(kind, name, "get"),
        "put": _write(kind, name, "put", ("application/json",)),
        "patch": _write(kind, name, "patch", formats_of(kind)),
    }
    found[f"{collection}/{{name}}"] = item | {"delete": _write(kind, name, "delete", ())}
    if resource.has_status:
        found[f"{collection}/{{name}}/status"] = item
    return found


def _operation(kind: Kind, answer: str, action: str) -> Json:
    content = {"application/json": {"schema": _reference(answer)}}
    return {
        "responses": {"200": {"description": "OK", "content": content}},
        _ACTION: action,
        _GVK: _gvk(kind),
    }


def _write(kind: Kind, name: str, action: str, formats: tuple[str, ...]) -> Json:
    operation = _operation(kind, name, action)
    names = ["dryRun", "fieldManager", "fieldValidation", *(["force"] if action == "patch" else [])]
    if action == "delete":
        names = ["dryRun", "gracePeriodSeconds", "propagationPolicy"]
    operation["parameters"] = [_parameter(one) for one in names]
    if formats:
        schema: Any = _reference(name)
        operation["requestBody"] = {"content": {one: {"schema": schema} for one in formats}}
    return operation


def _parameter(name: str) -> Json:
    kind = {"force": "boolean", "gracePeriodSeconds": "integer"}.get(name, "string")
    return {"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": True}}
