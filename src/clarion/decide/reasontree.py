"""Trees of reasons: what an answer is made of, and the parts that all answers share."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from clarion.decide.problems import Problem
from clarion.decide.reason_rows import Verdict
from clarion.decide.reasons import Reason
from clarion.decide.registry import listed

ITEMS_SHOWN = 20
"""Entries of one list in a tree; more of them nobody reads."""


class ReasonTree(msgspec.Struct, frozen=True):
    """A statement with what supports it.

    Attributes:
        status: Whether the statement is good news, bad news or a circumstance.
        code: The reason's or problem's code; empty for a heading.
    """

    label: str
    status: Verdict = "note"
    children: tuple["ReasonTree", ...] = ()
    code: str = ""
    remedy: str = ""


class Focus(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is narrowed to; empty for no narrowing."""

    node: str = ""
    peer: str = ""
    interface: str = ""

    def on(self, node: str) -> bool:
        """True if the node is asked about."""
        return self.node in ("", node)

    def to(self, peer: str) -> bool:
        """True if the peer is asked about."""
        return self.peer in ("", peer)


EVERYTHING = Focus()


def leaf(item: Reason, prefix: str = "") -> ReasonTree:
    """A reason as a statement."""
    return ReasonTree(prefix + item.text, item.verdict, (), item.code, item.remedy)


def trouble(item: Problem) -> ReasonTree:
    """A problem as a statement."""
    status: Verdict = "no" if item.severity == "error" else "note"
    where = f"{item.object} {item.path}".rstrip()
    return ReasonTree(f"{where}: {item.message}", status, (), item.code, item.remedy)


def group(label: str, children: Iterable[ReasonTree], status: Verdict | None = None) -> ReasonTree:
    """A heading; without a status of its own it is good if a child is."""
    items = tuple(children)
    states = {item.status for item in items}
    derived: Verdict = "yes" if "yes" in states else "no" if "no" in states else "note"
    return ReasonTree(label, status or derived, items)


def alike(what: str, groups: Mapping[str, tuple[ReasonTree, ...]]) -> Iterable[ReasonTree]:
    """One heading for all names with equal contents."""
    merged: dict[tuple[ReasonTree, ...], list[str]] = {}
    for name, children in groups.items():
        merged.setdefault(children, []).append(name)
    for children, names in merged.items():
        yield group(plural(what, names), children)


def ruled_out(refused: Mapping[str, Reason], focus: Focus) -> Iterable[ReasonTree]:
    """Nodes with the reason against each; nodes with one reason are one line."""
    groups: dict[str, tuple[Reason, list[str]]] = {}
    for node, why in refused.items():
        if focus.on(node):
            groups.setdefault(f"{why.text} {why.remedy}", (why, []))[1].append(node)
    for why, nodes in groups.values():
        yield leaf(why, f"{plural('node', nodes)}: ")


def first(items: Sequence[ReasonTree], what: str, count: int) -> Iterable[ReasonTree]:
    """The first ones, as many as a person reads, then how many more of `count` there are."""
    yield from items
    if count > len(items):
        more = count - len(items)
        yield ReasonTree(f"and {more} more {what}; `clarion plan -o json` lists them all")


def plural(what: str, names: Sequence[object]) -> str:
    """`node a`, or `nodes a, b`."""
    return f"{what}{'s' if len(names) > 1 else ''} {listed(names)}"


def number(count: int, what: str, many: str = "") -> str:
    """`1 route`, or `2 routes`."""
    return f"{count} {what if count == 1 else many or what + 's'}"
