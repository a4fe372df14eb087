"""Manifests to objects: every problem at once, each with file, line and column."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from clarion.model import yamltext
from clarion.model.codec import UndecodableError, from_builtins
from clarion.model.kinds import KINDS, Kind, find_kind
from clarion.model.meta import JSONObject, KubeObject, ObjectKey
from clarion.model.schema import object_schema
from clarion.model.structural import FieldError, apply_defaults, suggestion, validate
from clarion.model.yamltext import Entry, Fault, Node

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")


class Source:
    """Where an object was written; finds the place of each of its fields."""

    __slots__ = ("_root", "file")

    def __init__(self, file: str, root: Node) -> None:
        self.file = file
        self._root = root

    def position(self, path: str = "", *, key: bool = False) -> tuple[int, int]:
        """Line and column, from one, of a field such as `spec.addresses[1]`.

        A scalar stands where its value begins, unless the place of its key is asked for; a list or
        mapping stands at its key. A field that is not written is placed at the one that lacks it.
        """
        node, place = self._root, (self._root.line, self._root.column)
        for step in _STEP.finditer(path):
            found = _child(node, step[1] if step[1] is not None else step[2])
            if found is None:
                return place
            node = found.node
            scalar = not isinstance(node.value, dict | list)
            place = (node.line, node.column) if scalar and not key else (found.line, found.column)
        return place


def _child(node: Node, name: str) -> Entry | None:
    if isinstance(node.value, list):
        index = int(name) if name.isdecimal() else len(node.value)
        if index >= len(node.value):
            return None
        item = node.value[index]
        return Entry(item.line, item.column, item)
    entry: Entry | None = node.value.get(name) if isinstance(node.value, dict) else None
    return entry


class Document(msgspec.Struct, frozen=True):
    """One object as it was written."""

    object: JSONObject
    source: Source


WARNINGS = frozenset(("UnknownField",))
"""Codes of problems that leave the object usable: a cluster drops such fields too."""


class ManifestProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a manifest.

    `object` names the object as `Kind namespace/name`, `path` its field; both may be empty.
    """

    code: str
    file: str
    line: int
    column: int
    object: str = ""
    path: str = ""
    message: str
    remedy: str = ""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """`error`: the object is left out. `warning`: it is used, without what is wrong."""
        return "warning" if self.code in WARNINGS else "error"

    def __str__(self) -> str:
        """One line for people: place, object, field, what is wrong and the remedy."""
        what = ": ".join(filter(None, (self.object, self.path)))
        text = f"{self.file}:{self.line}:{self.column}: {what}{': ' if what else ''}{self.message}"
        return f"{text} ({self.remedy})" if self.remedy else text


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of manifests holds.

    `objects` are those without errors, in the version in which they are written; `flawed` have
    errors, but their values are of the right types, so that what else is wrong with them can be
    told; `skipped` are objects of kinds that have no part in Clarion's decisions; `empty` are the
    files that hold nothing but white space and comments.
    """

    objects: tuple[KubeObject, ...]
    problems: tuple[ManifestProblem, ...]
    skipped: tuple[Document, ...]
    flawed: tuple[KubeObject, ...] = ()
    empty: tuple[str, ...] = ()
    sources: dict[tuple[str, ObjectKey], Source]

    def position(self, kind: str, key: ObjectKey, path: str = "") -> tuple[str, int, int] | None:
        """File, line and column of a field of an object, None if no manifest holds the object."""
        source = self.sources.get((kind, key))
        return None if source is None else (source.file, *source.position(path))


def load(texts: Iterable[tuple[str, str]]) -> LoadResult:
    """Read manifests, given as (file name, text)."""
    loader = _Loader()
    for file, text in texts:
        loader.read(file, text)
    return LoadResult(
        objects=tuple(loader.objects),
        flawed=tuple(loader.flawed),
        problems=tuple(loader.problems),
        skipped=tuple(loader.skipped),
        empty=tuple(loader.empty),
        sources=loader.sources,
    )


def documents(file: str, text: str) -> Iterator[Document]:
    """The readable objects of one manifest as they were written, lists flattened."""
    for document in yamltext.read_documents(text):
        if document.node is not None and isinstance(document.node.value, dict):
            for node in _flatten(document.node):
                if isinstance(node.value, dict):
                    yield Document(node.plain(), Source(file, node))


def _flatten(node: Node) -> Iterator[Node]:
    """The items of a List, at any depth, or the object itself."""
    kind, items = _child(node, "kind"), _child(node, "items")
    if kind is None or not str(kind.node.value).endswith("List") or items is None:
        yield node
    elif isinstance(items.node.value, list):
        for item in items.node.value:
            yield from _flatten(item)


def _from_fault(file: str, fault: Fault) -> ManifestProblem:
    return ManifestProblem(
        code=fault.code,
        file=file,
        line=fault.line,
        column=fault.column,
        message=fault.message,
        remedy=fault.remedy,
    )


class _Loader:
    def __init__(self) -> None:
        self.objects: list[KubeObject] = []
        self.flawed: list[KubeObject] = []
        self.problems: list[ManifestProblem] = []
        self.skipped: list[Document] = []
        self.empty: list[str] = []
        self.sources: dict[tuple[str, ObjectKey], Source] = {}

    def read(self, file: str, text: str) -> None:
        found: list[ManifestProblem] = []
        content = False
        for document in yamltext.read_documents(text):
            content |= bool(document.faults)
            found.extend(_from_fault(file, fault) for fault in document.faults)
            if document.node is None or document.node.value is None:
                continue
            content = True
            told = {(fault.line, fault.column) for fault in document.faults}
            for node in _flatten(document.node):
                one = _One(file, node, told)
                self._take(one, sound=not told)
                found.extend(one.problems)
        if not content:
            self.empty.append(file)
        self.problems.extend(sorted(found, key=lambda problem: (problem.line, problem.column)))

    def _take(self, one: "_One", *, sound: bool) -> None:
        loaded = one.load()
        if one.foreign:
            self.skipped.append(Document(one.object, one.source))
        if one.identity is None:
            return
        known = self.sources.get(one.identity)
        if known is not None:
            line, _ = known.position()
            message = f"is defined a second time, first in {known.file}:{line}"
            one.report("DuplicateObject", "metadata.name", message, "remove one of the two")
            return
        self.sources[one.identity] = one.source
        if loaded is not None and sound:
            (self.flawed if one.broken else self.objects).append(loaded)


class _One:
    """One object on its way from node to struct."""

    def __init__(self, file: str, node: Node, told: set[tuple[int, int]]) -> None:
        self.source = Source(file, node)
        self.problems: list[ManifestProblem] = []
        self.identity: tuple[str, ObjectKey] | None = None
        self.foreign = False
        self.object: Any = node.plain()
        self._told = told
        self._silenced = False
        self._label = ""

    def report(
        self, code: str, path: str, message: str, remedy: str = "", *, key: bool = False
    ) -> None:
        """Note a problem unless the text at its place was already found wrong."""
        line, column = self.source.position(path, key=key)
        if (line, column) in self._told:
            self._silenced = True
            return
        self.problems.append(
            ManifestProblem(
                code=code,
                file=self.source.file,
                line=line,
                column=column,
                object=self._label,
                path=path,
                message=message,
                remedy=remedy,
            )
        )

    @property
    def broken(self) -> bool:
        """True if something is wrong that keeps the object out."""
        return any(problem.severity == "error" for problem in self.problems)

    def load(self) -> KubeObject | None:
        """The object; None if it has no part in ours."""
        if not isinstance(self.object, dict):
            self.report("NotAnObject", "", "is not an object: a mapping with apiVersion and kind")
            return None
        kind = self._kind()
        if kind is None:
            return None
        self._identify(kind)
        schema = object_schema(kind)
        for error in validate(schema, self.object, unknown_fields=True):
            self._report_error(error)
        try:
            return from_builtins(apply_defaults(schema, self.object), kind.struct)
        except UndecodableError as error:
            if not (self.broken or self._silenced):
                self.report("WrongType", "", error.message)
            return None

    def _report_error(self, error: FieldError) -> None:
        by_key = error.code == "UnknownField"
        self.report(error.code, error.path, error.message, error.remedy, key=by_key)

    def _kind(self) -> Kind | None:
        """The kind of the object; None, with or without a problem, if it is not one of ours."""
        missing = [f for f in ("apiVersion", "kind") if not isinstance(self.object.get(f), str)]
        for field in missing:
            self.report("MissingField", field, "is required, and a string")
        if missing:
            return None
        version, name = self.object["apiVersion"], self.object["kind"]
        kind = find_kind(version, name)
        if kind is not None:
            return kind
        group = version.rpartition("/")[0]
        versions = [row.api_version for row in KINDS if row.kind == name]
        if any(row.rpartition("/")[0] == group for row in versions):
            remedy = f"write {' or '.join(versions)}"
            self.report("UnknownKind", "apiVersion", f"{name} has no version {version}", remedy)
        elif group == "metallb.io" or group.endswith(".metallb.io"):
            meant = suggestion(name, [row.kind for row in KINDS if row.custom])
            remedy = f"did you mean {meant}?" if meant else ""
            self.report("UnknownKind", "kind", f"{version} has no kind {name}", remedy)
        else:
            self.foreign = True
        return None

    def _identify(self, kind: Kind) -> None:
        meta = self.object.get("metadata")
        name = meta.get("name") if isinstance(meta, dict) else None
        namespace = meta.get("namespace") if isinstance(meta, dict) and kind.namespaced else None
        key = ObjectKey(str(namespace or ""), str(name or ""))
        self._label = f"{kind.kind} {key}" if name else kind.kind
        if name:
            self.identity = (kind.kind, key)
        else:
            self.report("MissingField", "metadata.name", "is required")
