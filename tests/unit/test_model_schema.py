"""Schemas and CustomResourceDefinitions: complete, structural, and the same as the file."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from msgspec import inspect

from clarion.cli.crds import command
from clarion.model import kinds
from clarion.model.celrules import known_rules
from clarion.model.codec import dump_yaml, from_builtins
from clarion.model.core import CustomResourceDefinition
from clarion.model.meta import KubeObject, ObjectMeta
from clarion.model.schema import (
    custom_resource_definitions,
    inspect_fields,
    object_schema,
    openapi_schema,
)
from clarion.model.schema_core import CORE, CORE_META
from clarion.model.schema_text import META, METALLB
from clarion.model.structural import apply_defaults, prune, validate

CRD_FILE = Path(__file__).resolve().parents[2] / "deploy" / "crds" / "metallb.io.yaml"
CUSTOM = [kind for kind in kinds.KINDS if kind.custom]
EVERY_KIND = pytest.mark.parametrize(
    "kind", kinds.KINDS, ids=lambda kind: f"{kind.kind}-{kind.version}"
)


def test_the_file_is_what_the_model_says() -> None:
    text = dump_yaml(custom_resource_definitions())
    if os.environ.get("UPDATE_GOLDEN") == "1":
        CRD_FILE.write_text(text)
    assert CRD_FILE.read_text() == text


def test_the_command_prints_the_file() -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 0
    assert result.output == CRD_FILE.read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_the_file_as_it_was_meant() -> None:
    done = subprocess.run(
        ["kubectl", "annotate", "--local", "-o", "json", "-f", CRD_FILE, "judged=yes"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    decoder, rest, read = json.JSONDecoder(), done.stdout.strip(), []
    while rest:
        crd, end = decoder.raw_decode(rest)
        del crd["metadata"]["annotations"]
        read.append(crd)
        rest = rest[end:].lstrip()
    assert read == custom_resource_definitions()


def structs_within(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """A struct and all that its fields hold."""

    def inside(found: inspect.Type) -> Iterator[type[msgspec.Struct]]:
        if isinstance(found, inspect.StructType):
            yield from structs_within(found.cls)
        elif isinstance(found, inspect.UnionType):
            for member in found.types:
                yield from inside(member)
        elif isinstance(found, inspect.VarTupleType):
            yield from inside(found.item_type)

    yield struct
    for field in inspect_fields(struct):
        yield from inside(field.type)


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    spoken_of: dict[str, set[str]] = {}
    for kind in kinds.KINDS:
        for struct in structs_within(kind.struct):
            names = {field.encode_name for field in inspect_fields(struct)}
            if issubclass(struct, KubeObject):
                names -= {"apiVersion", "kind", "metadata"}
            spoken_of[struct.__name__] = names
    rows = {name: set(table) for name, table in (CORE_META | META | CORE | METALLB).items()}
    assert rows == spoken_of


def schemas_within(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from schemas_within(child, f"{path}.{name}")
    if "items" in schema:
        yield from schemas_within(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from schemas_within(schema["additionalProperties"], f"{path}{{}}")


@EVERY_KIND
def test_every_property_is_described(kind: kinds.Kind) -> None:
    for path, schema in schemas_within(object_schema(kind)):
        for name, child in schema.get("properties", {}).items():
            assert (path, name) == ("", "metadata") or child["description"], (path, name)
            assert not re.search(r"\s$|  ", child.get("description", "")), (path, name)


@EVERY_KIND
def test_defaults_are_valid_and_those_of_the_structs(kind: kinds.Kind) -> None:
    for path, schema in schemas_within(object_schema(kind)):
        if "default" in schema:
            assert validate(schema, schema["default"]) == [], path
    for struct in structs_within(kind.struct):
        tables = CORE_META | META | (METALLB if kind.custom else CORE)
        for field in inspect_fields(struct):
            row = tables.get(struct.__name__, {}).get(field.encode_name)
            if row is not None and "default" in row.keywords and field.default != "":
                # Where the struct's default is empty it says whether the field was written.
                assert field.default in (row.keywords["default"], None), (struct, field.name)


@pytest.mark.parametrize("kind", CUSTOM, ids=lambda kind: f"{kind.kind}-{kind.version}")
def test_structural_rules_of_custom_kinds(kind: kinds.Kind) -> None:
    """The rules for structural schemas of apiextensions.k8s.io/v1."""
    root = openapi_schema(kind)
    assert root["type"] == "object"
    assert root["properties"]["metadata"] == {"type": "object"}
    for path, schema in schemas_within(root):
        if schema.get("x-kubernetes-int-or-string"):
            assert "type" not in schema, path
        else:
            assert schema["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        assert ("items" in schema) == (schema.get("type") == "array"), path
        assert set(schema.get("required", ())) <= set(schema.get("properties", ())), path
        assert schema.get("minimum", 0) <= schema.get("maximum", 2**63), path
        assert "default" not in schema or not path.startswith(".metadata"), path
        if schema.get("x-kubernetes-list-type") == "map":
            item = schema["items"]
            for key in schema["x-kubernetes-list-map-keys"]:
                assert key in item.get("required", ()) or "default" in item["properties"][key]
        for row in schema.get("x-kubernetes-validations", ()):
            assert row["rule"] in known_rules(), path
            assert "\n" not in row["message"], path
        if "pattern" in schema:
            re.compile(schema["pattern"])


def test_all_cel_rules_are_used() -> None:
    used = {
        row["rule"]
        for kind in CUSTOM
        for _, schema in schemas_within(openapi_schema(kind))
        for row in schema.get("x-kubernetes-validations", ())
    }
    assert used == known_rules()


def test_definitions_as_the_api_reads_them() -> None:
    by_name = {crd["metadata"]["name"]: crd for crd in custom_resource_definitions()}
    assert len(by_name) == 10
    for crd in by_name.values():
        typed = from_builtins(crd, CustomResourceDefinition)
        assert sum(version.storage for version in typed.spec.versions) == 1
        assert validate(object_schema(kinds.CUSTOM_RESOURCE_DEFINITION), crd) == []
        for version in typed.spec.versions:
            assert version.subresources == {"status": {}}
    old, new = by_name["bgppeers.metallb.io"]["spec"]["versions"]
    assert (old["name"], old["served"], old["storage"], old["deprecated"]) == (
        "v1beta1",
        True,
        False,
        True,
    )
    assert "v1beta2" in old["deprecationWarning"]
    assert (new["name"], new["storage"], "deprecated" in new) == ("v1beta2", True, False)
    columns = by_name["l2advertisements.metallb.io"]["spec"]["versions"][0][
        "additionalPrinterColumns"
    ]
    assert [(c["name"], c.get("priority")) for c in columns][-1] == ("Node Selectors", 10)


@EVERY_KIND
def test_an_object_written_by_its_struct_is_valid(kind: kinds.Kind) -> None:
    """Only required fields may be missing from an empty object; nothing is pruned from it."""
    plain = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
    schema = object_schema(kind)
    assert {error.code for error in validate(schema, plain)} <= {"MissingField"}
    assert prune(schema, plain) == plain
    full = apply_defaults(schema, plain | {"spec": {}} if "spec" in schema["properties"] else plain)
    assert from_builtins(full, kind.struct).metadata == ObjectMeta(name="x")
