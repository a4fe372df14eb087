"""YAML text to values with their places, and values to YAML text.

Scalars are read by the core schema of YAML 1.2: `no` is a string and `010` is ten. kubectl reads
YAML 1.1, so a scalar that the two read differently is reported rather than silently taken either
way. Nodes are built from the parser's events, not by its composer, which is recursive in C.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, NoReturn

import yaml

from clarion.base.errors import quoted, shortened
from clarion.base.limits import YAML_ALIAS_NODES, YAML_DEPTH

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"

_TAGGED: dict[str, tuple[type, ...]] = {
    _TAG + "int": (int,),
    _TAG + "float": (int, float),
    _TAG + "bool": (bool,),
    _TAG + "null": (type(None),),
}

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {w: w.lower() == "true" for w in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# What a reader of YAML 1.1, as in kubectl, takes for something else than YAML 1.2 does.
_OLD_BOOLS = frozenset(
    form for word in ("y", "yes", "on", "n", "no", "off") for form in (word, word.title())
) | frozenset({"YES", "ON", "NO", "OFF"})
_OLD_OCTAL = re.compile(r"[-+]?0[0-7]+")
_OLD_BASED_INT = re.compile(r"[-+]?0([xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # those that libyaml counts
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKER = re.compile(r"^(---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_NO_CONTENT = re.compile(r"(---)?([ \t\r\n]|#[^\n]*(\n|\Z))*")
_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class Fault(NamedTuple):
    """Something wrong with the text; lines and columns count from one."""

    code: str
    line: int
    column: int
    message: str
    remedy: str = ""


class Node:
    """A value and its place.

    `value` is a scalar, a list of nodes, or a dict of `Entry`. `size` counts the values that the
    node stands for, those behind aliases included.
    """

    __slots__ = ("column", "is_merge", "is_open", "line", "size", "value")

    def __init__(self, line: int, column: int, value: Any) -> None:
        self.line = line
        self.column = column
        self.value = value
        self.size = 1
        self.is_open = False
        self.is_merge = False

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


class Entry(NamedTuple):
    """One field of a mapping, with the place of its key."""

    line: int
    column: int
    node: Node


class YamlDocument(NamedTuple):
    """One document of a stream; `node` is None if it could not be read at all."""

    node: Node | None
    faults: tuple[Fault, ...]


class _UnreadableError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def read_documents(text: str) -> Iterator[YamlDocument]:
    """The documents of a stream; one that cannot be read does not hide those after it."""
    for chunk, first_line in _split(text.removeprefix("\ufeff")):
        builder = _Builder(first_line)
        try:
            node = builder.build(chunk)
        except _UnreadableError as error:
            yield YamlDocument(None, (*builder.faults, error.fault))
        else:
            yield YamlDocument(node, tuple(builder.faults))


def _split(text: str) -> Iterator[tuple[str, int]]:
    """Cut a stream at its document markers, which can stand nowhere else at a line's start."""
    start = 0
    for match in [*_MARKER.finditer(text), None]:
        end = match.start() if match else len(text)
        chunk = text[start:end]
        if not _NO_CONTENT.fullmatch(chunk):
            if match and match[1] == "---" and _only_directives(chunk):
                continue
            yield chunk, text.count("\n", 0, start) + 1
        if match:
            start = match.start() if match[1] == "---" else match.end()


def _only_directives(chunk: str) -> bool:
    return all(not line.strip() or line[0] in "%#" for line in chunk.split("\n"))


class _Builder:
    """Makes nodes of the events of one document."""

    def __init__(self, first_line: int) -> None:
        self.faults: list[Fault] = []
        self._first_line = first_line
        self._anchors: dict[str, Node] = {}
        self._aliased = 0
        self._stack: list[tuple[Node, list[Node], list[Node]]] = []
        self._root: Node | None = None

    def build(self, text: str) -> Node | None:
        """The root of the document; raises `_UnreadableError` if the text is no YAML."""
        text = _as_yaml(text)
        bad = _UNREADABLE.search(text)
        if bad is not None:
            line = text.count("\n", 0, bad.start())
            column = bad.start() - (text.rfind("\n", 0, bad.start()) + 1)
            self._fail(line, column, f"character U+{ord(bad[0]):04X} is not allowed in YAML")
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            assert mark is not None
            line, column = mark.line, mark.column
            lines = _LINE_BREAK.split(text)
            while line > 0 and not any(map(str.strip, lines[line:])):
                line -= 1  # the end of the text says nothing: name the last line with content
                column = max(len(lines[line].rstrip()) - 1, 0)
            words = ", ".join(filter(None, (error.problem, error.context)))
            remedy = "indent with spaces, not with tabs" if "\t" in lines[line] else ""
            self._fail(line, column, f"is not valid YAML: {words}", remedy)
        return self._root

    def _fail(self, line: int, column: int, message: str, remedy: str = "") -> NoReturn:
        place = line + self._first_line, column + 1
        raise _UnreadableError(Fault("InvalidYAML", *place, message, remedy))

    def _fault(self, code: str, node: Node, message: str, remedy: str = "") -> None:
        self.faults.append(Fault(code, node.line, node.column, message, remedy))

    def _take(self, event: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + self._first_line, mark.column + 1
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, column, None)
            self._read_scalar(event, node)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            node = Node(line, column, {} if isinstance(event, yaml.MappingStartEvent) else [])
            self._open(event, node)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close()
            return
        elif isinstance(event, yaml.AliasEvent):
            node = self._aliased_node(event, mark)
        else:
            return
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            self._anchors[event.anchor] = node
        if not node.is_open:
            self._add(node)

    def _open(self, event: Any, node: Node) -> None:
        if len(self._stack) >= YAML_DEPTH:
            mark = event.start_mark
            self._fail(mark.line, mark.column, f"is nested deeper than {YAML_DEPTH} levels")
        wanted = "map" if isinstance(node.value, dict) else "seq"
        if event.tag not in (None, "!", _TAG + wanted):
            self._fault("UnsupportedTag", node, f"the tag {event.tag} is not supported")
        node.is_open = True
        self._stack.append((node, [], []))

    def _close(self) -> None:
        node, _, merges = self._stack.pop()
        for merged in merges:
            for key, entry in merged.value.items():
                node.value.setdefault(key, entry)
        node.is_open = False
        self._add(node)

    def _aliased_node(self, event: Any, mark: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            self._fail(mark.line, mark.column, f"the alias *{event.anchor} has no anchor before it")
        if node.is_open:
            self._fail(mark.line, mark.column, f"the alias *{event.anchor} stands for itself")
        self._aliased += node.size
        if self._aliased > YAML_ALIAS_NODES:
            message = f"aliases stand for more than {YAML_ALIAS_NODES} values"
            self._fail(mark.line, mark.column, message)
        return node

    def _add(self, node: Node) -> None:
        """Put a finished node where it belongs: root, list, key, or value of the last key."""
        if not self._stack:
            self._root = node
            return
        parent, pending, merges = self._stack[-1]
        parent.size += node.size
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif not pending:
            pending.append(node)
        else:
            key = pending.pop()
            if key.is_merge:
                self._merge(node, merges)
            else:
                self._put(parent, key, node)

    def _merge(self, node: Node, merges: list[Node]) -> None:
        sources = node.value if isinstance(node.value, list) else [node]
        if all(isinstance(source.value, dict) for source in sources):
            merges.extend(sources)
        else:
            self._fault("InvalidYAML", node, "a merge (<<) needs a mapping or a list of mappings")

    def _put(self, parent: Node, key: Node, node: Node) -> None:
        if key.value is None or isinstance(key.value, dict | list):
            self._fault("InvalidKey", key, "a key must be a string")
            return
        name = str(key.value).lower() if isinstance(key.value, bool) else str(key.value)
        known = parent.value.get(name)
        if known is not None:
            first = f"first in line {known.line}"
            message = f"the key {shortened(name)} stands here a second time, {first}"
            self._fault("DuplicateKey", key, message, "remove one of the two")
            return
        parent.value[name] = Entry(key.line, key.column, node)

    def _read_scalar(self, event: Any, node: Node) -> None:
        text, tag = event.value, event.tag
        if tag is None and not event.style:
            node.is_merge = text == _MERGE
            try:
                node.value = resolve(text)
            except OverflowError:
                self._fault("NotANumber", node, f"{shortened(text)} has no form in JSON")
            other = other_reading(text)
            if other is not None:
                short, other = shortened(text), shortened(other)
                message = f"{short} is {_shown(node.value)} in YAML 1.2, but kubectl reads {other}"
                if isinstance(node.value, str):
                    remedy = f'write "{short}" for the string, or {other}'
                else:
                    remedy = f"write {node.value} or {other}, whichever is meant"
                self._fault("AmbiguousScalar", node, message, remedy)
        elif tag in (None, "!", _TAG + "str"):
            node.value = text
        else:
            self._read_tagged(text, tag, node)

    def _read_tagged(self, text: str, tag: str, node: Node) -> None:
        wanted = _TAGGED.get(tag)
        if wanted is None:
            self._fault("UnsupportedTag", node, f"the tag {tag} is not supported")
            return
        try:
            node.value = resolve(text)
        except OverflowError:
            node.value = text
        if not isinstance(node.value, wanted):
            self._fault("UnsupportedTag", node, f"{quoted(text)} is no {tag.removeprefix(_TAG)}")


def _as_yaml(text: str) -> str:
    """Make JSON acceptable to a YAML 1.1 parser: no tabs between values, no escaped pairs."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    return _SURROGATES.sub(
        lambda match: chr(
            0x10000 + ((int(match[1], 16) - 0xD800) << 10) + (int(match[2], 16) - 0xDC00)
        ),
        text.replace("\t", " "),
    )


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by the core schema of YAML 1.2.

    Raises:
        OverflowError: the value is infinite or not a number, which JSON cannot hold.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    if _INT.fullmatch(text) and len(text) <= 20:
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise OverflowError(text)
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        raise OverflowError(text)
    # JSON knows no difference between 1e3 and 1000; integers stay exact up to 2**53.
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def other_reading(text: str) -> str | None:
    """What kubectl makes of a plain scalar, if that is not what YAML 1.2 makes of it."""
    if text in _OLD_BOOLS:
        return "true" if text[0] in "yY" or text.lower() == "on" else "false"
    if not text or text[0] not in "+-.0123456789":
        return None
    bare = text.replace("_", "")
    if _OLD_OCTAL.fullmatch(bare):
        old = int(bare, 8)
        return None if bare == text and old == int(bare) else str(old)
    if _OLD_BASED_INT.fullmatch(bare):
        sign = "-" if bare[0] == "-" else ""
        return None if _BASED_INT.fullmatch(text) else sign + str(int(bare.lstrip("+-"), 0))
    return bare if bare != text and _FLOAT.fullmatch(bare) else None


def _shown(value: Any) -> str:
    return f'the string "{shortened(value)}"' if isinstance(value, str) else f"the number {value}"


class _Dumper(yaml.SafeDumper):
    """Writes lists indented under their key, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, False)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Quote what any reader could take for something else than a string."""
    style = None
    if "\n" in text.rstrip("\n"):
        style = "|"
    elif _looks_special(text):
        style = "'"
    return dumper.represent_scalar(_TAG + "str", text, style=style)


def _looks_special(text: str) -> bool:
    try:
        return not isinstance(resolve(text), str) or other_reading(text) is not None
    except OverflowError:
        return True


_Dumper.add_representer(str, _represent_text)


def dump(documents: Iterable[Any]) -> str:
    """Plain values as a stream of documents, the same text on every machine."""
    return yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        allow_unicode=True,
        explicit_start=True,
        width=100,
    )
