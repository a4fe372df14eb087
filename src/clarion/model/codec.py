"""Bytes to objects and back; the only importer of msgspec's codecs in the model.

JSON is here. Manifests in YAML are read by `manifests.py`, imported only when a manifest is read,
since most programs never see one.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from clarion.base.errors import InvalidInputError
from clarion.model.kinds import Kind, find_kind
from clarion.model.meta import (
    JSONObject,
    KubeList,
    KubeObject,
    ListMeta,
    ObjectKey,
    WatchEvent,
)

if TYPE_CHECKING:
    from clarion.model.manifests import LoadResult

ObjectT = TypeVar("ObjectT", bound=KubeObject)
T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_watch_decoder = msgspec.json.Decoder(WatchEvent)
_any_decoder = msgspec.json.Decoder()


class UndecodableError(InvalidInputError):
    """Bytes or a plain object do not form the object that they claim to be."""


class Rejected(msgspec.Struct, frozen=True):
    """An item of a list that could not be read, and why; the others are not affected."""

    key: ObjectKey
    message: str


class ListPage(msgspec.Struct, frozen=True):
    """One page of a list: the objects that could be read and those that could not."""

    metadata: ListMeta
    items: tuple[Any, ...]
    rejected: tuple[Rejected, ...] = ()


class _TypeMeta(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_version: str = ""
    kind: str = ""


class _RawList(msgspec.Struct, frozen=True):
    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


_type_decoder = msgspec.json.Decoder(_TypeMeta)
_raw_list_decoder = msgspec.json.Decoder(_RawList)


_list_of: Any = KubeList  # subscripted with a struct that is known only when it runs
_decoders: dict[Any, "msgspec.json.Decoder[Any]"] = {}


def _decoder(struct: Any) -> "msgspec.json.Decoder[Any]":
    decoder = _decoders.get(struct)
    if decoder is None:
        decoder = _decoders[struct] = msgspec.json.Decoder(struct)
    return decoder


def encode(value: Any) -> bytes:
    """JSON of an object or plain value, as compact as the API sends it."""
    return _encoder.encode(value)


def decode(data: bytes | msgspec.Raw, struct: type[T]) -> T:
    """One object of a known kind.

    A null in a field that cannot be null counts as absent: programs in Go write empty lists so.

    Raises:
        UndecodableError: not JSON, or a field has the wrong type.
    """
    try:
        result: T = _decoder(struct).decode(data)
    except msgspec.ValidationError:
        return from_builtins(decode_any(data), struct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"not valid JSON: {error}") from None
    return result


def decode_any(data: bytes | msgspec.Raw) -> Any:
    """JSON as plain values.

    Raises:
        UndecodableError: not JSON.
    """
    try:
        return _any_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"not valid JSON: {error}") from None


def decode_object(data: bytes | msgspec.Raw) -> KubeObject:
    """One object, its kind told by its own apiVersion and kind.

    Raises:
        UndecodableError: not JSON, a kind that is not known, or a field of the wrong type.
    """
    try:
        name = _type_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"not an object with apiVersion and kind: {error}") from None
    return decode(data, _known_kind(name.api_version, name.kind).struct)


def _known_kind(api_version: str, name: str) -> Kind:
    kind = find_kind(api_version, name)
    if kind is None:
        raise UndecodableError(f"kind {name or '(none)'} of {api_version or '(none)'} is not known")
    return kind


def decode_list_items(data: bytes, kind: Kind) -> ListPage:
    """A page of a list; an item that cannot be read does not spoil the others.

    Raises:
        UndecodableError: not JSON, or not a list at all.
    """
    try:
        page = _decoder(_list_of[kind.struct]).decode(data)
        return ListPage(page.metadata, page.items)
    except msgspec.ValidationError:
        return _decode_one_by_one(data, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"not valid JSON: {error}") from None


def _decode_one_by_one(data: bytes, kind: Kind) -> ListPage:
    try:
        page = _raw_list_decoder.decode(data)
    except msgspec.ValidationError as error:
        raise UndecodableError(f"not a list of {kind.plural}: {error}") from None
    items: list[KubeObject] = []
    rejected: list[Rejected] = []
    for raw in page.items or ():
        try:
            items.append(decode(raw, kind.struct))
        except UndecodableError as error:
            rejected.append(Rejected(_key_of(raw), error.message))
    return ListPage(page.metadata, tuple(items), tuple(rejected))


def _key_of(raw: msgspec.Raw) -> ObjectKey:
    plain = decode_any(raw)
    meta = plain.get("metadata") if isinstance(plain, dict) else None
    if not isinstance(meta, dict):
        return ObjectKey("", "")
    return ObjectKey(str(meta.get("namespace") or ""), str(meta.get("name") or ""))


def decode_watch_event(line: bytes) -> WatchEvent:
    """One line of a watch; its object stays bytes, for `decode`.

    Raises:
        UndecodableError: not a watch event.
    """
    try:
        return _watch_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"not a watch event: {error}") from None


def to_builtins(value: Any) -> Any:
    """An object as dicts, lists and scalars, as JSON would hold it."""
    return _any_decoder.decode(_encoder.encode(value))


def from_builtins(value: Any, struct: type[T]) -> T:
    """The object of a known kind that a plain value describes.

    Raises:
        UndecodableError: a field has the wrong type.
    """
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert(_without_nulls(value), struct)
    except msgspec.ValidationError as error:
        raise UndecodableError(str(error)) from None


def object_from_builtins(value: JSONObject) -> KubeObject:
    """The object that a plain value describes, its kind told by its apiVersion and kind.

    Raises:
        UndecodableError: a kind that is not known, or a field of the wrong type.
    """
    kind = _known_kind(str(value.get("apiVersion", "")), str(value.get("kind", "")))
    return from_builtins(value, kind.struct)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def load_manifests(texts: Iterable[tuple[str, str]]) -> "LoadResult":
    """Objects and all problems of manifests, given as (file name, text)."""
    from clarion.model.manifests import load

    return load(texts)


def dump_yaml(documents: Iterable[Any]) -> str:
    """Plain values as a stream of YAML documents, the same text on every machine."""
    from clarion.model.yamltext import dump

    return dump(documents)
