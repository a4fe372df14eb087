"""Structural OpenAPI v3 schemas and CustomResourceDefinitions, made from structs and their rows."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from clarion.model.core import CustomResourceDefinition
from clarion.model.kinds import KINDS, Kind, versions_of
from clarion.model.meta import Condition, JSONObject, KubeObject, ObjectMeta
from clarion.model.schema_core import CORE, CORE_META
from clarion.model.schema_text import META, METALLB, STRUCT_KEYWORDS, Rule

Schema = dict[str, Any]

_API_VERSION = {
    "type": "string",
    "description": "Version of the kind in which the object is written.",
}
_KIND = {"type": "string", "description": "Kind of the object."}
_OPEN_OBJECT: Schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

# Metadata that the API writes and that no part of Clarion reads.
_UNREAD_META: Schema = {
    "managedFields": {
        "type": "array",
        "description": "Who wrote which fields.",
        "items": _OPEN_OBJECT,
    },
    "selfLink": {"type": "string", "description": "Deprecated, without effect."},
}


def object_schema(kind: Kind) -> Schema:
    """The schema of a whole object, metadata included; for validation, pruning and defaults."""
    return _object_schema(kind, full_metadata=True)


def openapi_schema(kind: Kind) -> Schema:
    """The schema as it stands in a CustomResourceDefinition: metadata is the API's own affair."""
    return _object_schema(kind, full_metadata=False)


@cache
def _object_schema(kind: Kind, *, full_metadata: bool) -> Schema:
    rows = METALLB if kind.custom else CORE
    properties: Schema = {"apiVersion": _API_VERSION, "kind": _KIND, "metadata": {"type": "object"}}
    if full_metadata:
        meta = _struct_schema(ObjectMeta, CORE_META, open_ended=False)
        meta["properties"] |= _UNREAD_META
        properties["metadata"] = meta
    own, required = _properties(kind.struct, rows, open_ended=not kind.custom)
    schema: Schema = {
        "description": _summary(kind.struct),
        "type": "object",
        "properties": properties | own,
    }
    if required:
        schema["required"] = required
    if not kind.custom:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _summary(struct: type) -> str:
    return (struct.__doc__ or struct.__name__).split("\n\n", maxsplit=1)[0]


def _properties(
    struct: type[msgspec.Struct], rows: dict[str, dict[str, Rule]], *, open_ended: bool
) -> tuple[Schema, list[str]]:
    """Properties of a struct's fields, and the names of those that must be given."""
    inherited = {"apiVersion", "kind", "metadata"} if issubclass(struct, KubeObject) else set()
    table = rows.get(struct.__name__) or CORE_META.get(struct.__name__) or META.get(struct.__name__)
    properties: Schema = {}
    required: list[str] = []
    for field in inspect_fields(struct):
        if field.encode_name in inherited:
            continue
        assert table is not None, f"no rows describe {struct.__name__}"
        row = table[field.encode_name]
        properties[field.encode_name] = _property(field.type, row, rows, open_ended=open_ended)
        if row.required:
            required.append(field.encode_name)
    return properties, sorted(required)


def inspect_fields(struct: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """The fields of a struct with their types."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _property(
    kind: inspect.Type, row: Rule, rows: dict[str, dict[str, Rule]], *, open_ended: bool
) -> Schema:
    keywords = dict(row.keywords)
    items_enum = keywords.pop("items_enum", None)
    schema: Schema = {"description": ""}  # the first key, also where the type has its own
    schema |= _type_schema(kind, rows, open_ended=open_ended)
    schema["description"] = row.description
    if items_enum is not None:
        schema["items"] = schema["items"] | {"enum": items_enum}
    return schema | keywords


def _type_schema(
    kind: inspect.Type, rows: dict[str, dict[str, Rule]], *, open_ended: bool
) -> Schema:
    match kind:
        case inspect.UnionType():
            members = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
            if len(members) == 1:
                return _type_schema(members[0], rows, open_ended=open_ended)
            return {"x-kubernetes-int-or-string": True}
        case inspect.StructType():
            return _struct_schema(kind.cls, rows, open_ended=open_ended)
        case inspect.VarTupleType():
            items = _type_schema(kind.item_type, rows, open_ended=open_ended)
            return {"type": "array", "items": items}
        case inspect.DictType(value_type=inspect.AnyType()):
            return dict(_OPEN_OBJECT)
        case inspect.DictType():
            values = _type_schema(kind.value_type, rows, open_ended=open_ended)
            return {"type": "object", "additionalProperties": values}
        case inspect.StrType():
            return {"type": "string"}
        case inspect.IntType():
            return {"type": "integer"}
        case inspect.BoolType():
            return {"type": "boolean"}
    raise TypeError(f"a struct holds a type that has no schema: {kind!r}")


def _struct_schema(
    struct: type[msgspec.Struct], rows: dict[str, dict[str, Rule]], *, open_ended: bool
) -> Schema:
    properties, required = _properties(struct, rows, open_ended=open_ended)
    schema: Schema = {"description": _summary(struct), "type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    if open_ended and struct is not Condition:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema | STRUCT_KEYWORDS.get(struct.__name__, {})


def custom_resource_definition(kind: Kind) -> JSONObject:
    """The CustomResourceDefinition of a metallb.io kind with all its versions.

    Versions differ only by fields that the other lacks, so no conversion by webhook is needed.
    """
    versions = versions_of(kind.group, kind.plural)
    return {
        "apiVersion": CustomResourceDefinition().api_version,
        "kind": CustomResourceDefinition().kind,
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": {
                "kind": kind.kind,
                "listKind": kind.list_kind,
                "plural": kind.plural,
                "singular": kind.singular,
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "conversion": {"strategy": "None"},
            "versions": [_version(row) for row in sorted(versions, key=lambda row: row.version)],
        },
    }


def _version(kind: Kind) -> JSONObject:
    version: JSONObject = {"name": kind.version, "served": True, "storage": kind.stored}
    if kind.deprecated:
        version["deprecated"] = True
        version["deprecationWarning"] = kind.deprecation_warning
    if kind.columns:
        version["additionalPrinterColumns"] = [
            {"name": column.name, "type": column.type, "jsonPath": column.json_path}
            | ({"priority": column.priority} if column.priority else {})
            for column in kind.columns
        ]
    version["schema"] = {"openAPIV3Schema": openapi_schema(kind)}
    if kind.status_subresource:
        version["subresources"] = {"status": {}}
    return version


def custom_resource_definitions(kinds: Iterable[Kind] = KINDS) -> list[JSONObject]:
    """The definitions of all custom kinds, by name."""
    own = [kind for kind in kinds if kind.custom and kind.stored]
    return [custom_resource_definition(kind) for kind in sorted(own, key=lambda kind: kind.plural)]
