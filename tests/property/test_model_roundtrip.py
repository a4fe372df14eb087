"""Objects of every kind: to JSON, YAML and between versions and back; verdicts against a judge."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from clarion.model import codec, kinds
from clarion.model.annotations import CONVERSION_DATA
from clarion.model.convert import peer_to_v1beta1, peer_to_v1beta2
from clarion.model.schema import inspect_fields, object_schema, openapi_schema
from clarion.model.structural import apply_defaults, prune, validate
from clarion.model.yamltext import read_documents

EVERY_KIND = pytest.mark.parametrize(
    "kind", kinds.KINDS, ids=lambda kind: f"{kind.kind}-{kind.version}"
)
CUSTOM_KIND = pytest.mark.parametrize(
    "kind",
    [kind for kind in kinds.KINDS if kind.custom],
    ids=lambda kind: f"{kind.kind}-{kind.version}",
)
# Any text that UTF-8 and YAML can both hold, and texts that YAML could take for something else.
TEXT = st.one_of(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]),
        max_size=8,
    ),
    st.text("0123456789+-._eExXobny:~#[]{}&*!|>'\"%@` \n\tfalsetrue", max_size=8),
    st.sampled_from(["no", "010", "~", "1e3", "<<", "-", "y: n", "a\nb\n"]),
)


def values(found: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of one type of a struct's field."""
    match found:
        case inspect.UnionType():
            return st.one_of([values(member) for member in found.types])
        case inspect.NoneType():
            return st.none()
        case inspect.StructType():
            return structs(found.cls)
        case inspect.VarTupleType():
            return st.lists(values(found.item_type), max_size=2).map(tuple)
        case inspect.DictType(value_type=inspect.AnyType()):
            return st.dictionaries(TEXT, st.integers(-5, 5) | TEXT, max_size=2)
        case inspect.DictType():
            return st.dictionaries(TEXT, values(found.value_type), max_size=2)
        case inspect.StrType():
            return TEXT
        case inspect.IntType():
            return st.integers(-(2**31), 2**33)
        case inspect.BoolType():
            return st.booleans()
    raise AssertionError(found)


def structs(struct: type[Any]) -> st.SearchStrategy[Any]:
    """Objects with some fields given and the others left at their defaults."""
    fields = {
        field.name: values(field.type)
        for field in inspect_fields(struct)
        if field.encode_name not in ("apiVersion", "kind")
    }
    required = {f.name for f in inspect_fields(struct) if f.required}
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in required},
        optional={name: value for name, value in fields.items() if name not in required},
    ).map(lambda given_fields: struct(**given_fields))


@EVERY_KIND
@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.data())
def test_json_round_trip(kind: kinds.Kind, data: st.DataObject) -> None:
    obj = data.draw(structs(kind.struct))
    written = codec.encode(obj)
    assert codec.decode_object(written) == obj
    assert codec.encode(codec.decode_object(written)) == written
    page = codec.decode_list_items(b'{"items":[' + written + b"]}", kind)
    assert (page.items, page.rejected) == ((obj,), ())


@EVERY_KIND
@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.data())
def test_yaml_round_trip(kind: kinds.Kind, data: st.DataObject) -> None:
    plain = codec.to_builtins(data.draw(structs(kind.struct)))
    (document,) = read_documents(codec.dump_yaml([plain]))
    assert document.node is not None
    assert (document.node.plain(), document.faults) == (plain, ())


@EVERY_KIND
@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.data())
def test_pruning_and_defaults_lose_and_repeat_nothing(
    kind: kinds.Kind, data: st.DataObject
) -> None:
    schema = object_schema(kind)
    obj = data.draw(structs(kind.struct))
    plain = codec.to_builtins(obj)
    assert prune(schema, plain) == plain, "the schema knows every field of the struct"
    full = apply_defaults(schema, plain)
    assert apply_defaults(schema, full) == full
    assert [e for e in validate(schema, plain) if e.code == "WrongType"] == []


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 70000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def spoilt(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that mostly have the form of a schema and sometimes anything else."""
    if "enum" in schema:
        right: st.SearchStrategy[Any] = st.sampled_from(schema["enum"])
    elif schema.get("type") == "object":
        names = {name: spoilt(child) for name, child in schema.get("properties", {}).items()}
        right = st.fixed_dictionaries({}, optional=names)
    elif schema.get("type") == "array":
        right = st.lists(spoilt(schema["items"]), max_size=2)
    elif schema.get("type") == "integer":
        right = st.sampled_from([0, 1, 2, 10, 32, 33, 128, 255, 65535, 65536, 2**32 - 1, 2**32])
    elif schema.get("type") == "boolean":
        right = st.booleans()
    else:
        right = TEXT
    return st.one_of(right, right, right, right, right, right, PLAIN)


def for_the_judge(schema: Any) -> Any:
    """A structural schema as JSON Schema: a null where none may stand counts as absent."""
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: for_the_judge(value)
        for key, value in schema.items()
        if not key.startswith("x-kubernetes-") and key not in ("default", "format", "properties")
    }
    if "properties" in schema:
        plain["properties"] = {k: for_the_judge(v) for k, v in schema["properties"].items()}
    if schema.get("format") == "int32":
        plain = {"minimum": -(2**31), "maximum": 2**31 - 1} | plain
    return plain


def without_nulls(value: Any) -> Any:
    """Fields that are null are dropped, as the API drops them; nulls in lists stay."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@CUSTOM_KIND
@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.data())
def test_verdicts_are_those_of_a_general_validator(kind: kinds.Kind, data: st.DataObject) -> None:
    schema = openapi_schema(kind)
    value = without_nulls(data.draw(spoilt(schema)))
    judge = jsonschema_rs.validator_for(for_the_judge(schema))
    ours = {
        error.path
        for error in validate(schema, value)
        if error.code not in ("RuleBroken", "DuplicateItem", "WrongFormat")
    }
    assert bool(ours) is not judge.is_valid(value), (ours, value)


PEER_FIELDS = object_schema(kinds.BGP_PEER)["properties"]["spec"]
OLD_PEER_FIELDS = object_schema(kinds.BGP_PEER_V1BETA1)["properties"]["spec"]
METADATA = st.fixed_dictionaries(
    {"name": TEXT},
    optional={
        "annotations": st.dictionaries(TEXT, TEXT, min_size=1, max_size=2),
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
    },
)


def peers(version: str, spec: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "apiVersion": st.just(f"metallb.io/{version}"),
            "kind": st.just("BGPPeer"),
            "metadata": METADATA,
            "spec": st.fixed_dictionaries(
                {}, optional={name: spoilt(child) for name, child in spec["properties"].items()}
            ),
        }
    )


@settings(derandomize=True, max_examples=200, deadline=None)
@given(peers("v1beta2", PEER_FIELDS))
def test_a_peer_survives_the_old_version(peer: dict[str, Any]) -> None:
    if peer["spec"].get("peerPort") == 0:
        del peer["spec"]["peerPort"]  # not valid in v1beta2
    old = peer_to_v1beta1(peer)
    assert old["apiVersion"] == "metallb.io/v1beta1"
    assert set(old["spec"]) <= set(OLD_PEER_FIELDS["properties"])
    assert (CONVERSION_DATA in old["metadata"].get("annotations", {})) is (
        set(peer["spec"]) > set(old["spec"])
    )
    assert peer_to_v1beta2(old) == peer


@settings(derandomize=True, max_examples=200, deadline=None)
@given(peers("v1beta1", OLD_PEER_FIELDS))
def test_a_peer_survives_the_new_version(peer: dict[str, Any]) -> None:
    if peer["spec"].get("peerPort") == 0:
        del peer["spec"]["peerPort"]  # spells the default
    new = peer_to_v1beta2(peer)
    assert new["spec"] == peer["spec"], "no field appears, above all no timers"
    assert peer_to_v1beta1(new) == peer
