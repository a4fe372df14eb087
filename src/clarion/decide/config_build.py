"""What the checks of all kinds share: where problems go, who came first, the last good version."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from clarion.base.errors import InvalidInputError
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.registry import Fact
from clarion.decide.selectors import describe, faults, matches
from clarion.decide.snapshot import Snapshot
from clarion.model.meta import KubeObject, LabelSelector

K = TypeVar("K", bound=KubeObject)
V = TypeVar("V")
T = TypeVar("T")

NOT_YET_STORED = "~"
"""Sorts after every timestamp: an object without one is being created now."""


def ref(obj: KubeObject) -> ObjectRef:
    """The reference to an object."""
    return ObjectRef(obj.kind, obj.namespace, obj.name)


def age(obj: KubeObject) -> tuple[str, str, str]:
    """Key that sorts the oldest object first; names decide between objects of one second."""
    return obj.metadata.creation_timestamp or NOT_YET_STORED, obj.namespace, obj.name


class Build:
    """Work in progress on one configuration: inputs at hand and the problems found so far."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.options = snapshot.options
        self.node_labels = {node.name: node.metadata.labels for node in snapshot.nodes}
        self.problems: list[Problem] = []

    def report(
        self,
        code: str,
        obj: KubeObject,
        path: str = "",
        related: Iterable[ObjectRef] = (),
        /,
        **facts: Fact,
    ) -> None:
        """Note a problem."""
        self.problems.append(
            Problem(code=code, object=ref(obj), path=path, facts=facts, related=tuple(related))
        )

    def errors(self) -> int:
        """How many problems so far set an object aside."""
        return sum(problem.severity == "error" for problem in self.problems)

    def parse(
        self, read: Callable[[str], T], text: str, code: str, obj: KubeObject, path: str
    ) -> T | None:
        """The value of a text, or None and a problem."""
        try:
            return read(text)
        except InvalidInputError as error:
            self.report(code, obj, path, fault=error.message)
            return None

    def unique(self, values: Iterable[str], obj: KubeObject, path: str) -> None:
        """Report every entry of a list that stands in it before."""
        seen: set[str] = set()
        for index, value in enumerate(values):
            if value in seen:
                self.report("duplicate-entry", obj, f"{path}[{index}]", value=value)
            seen.add(value)

    def selectors(self, selectors: Iterable[LabelSelector], obj: KubeObject, path: str) -> None:
        """Report malformed and repeated selectors of a list."""
        seen: list[LabelSelector] = []
        for index, selector in enumerate(selectors):
            self.selector(selector, obj, f"{path}[{index}]")
            if selector in seen:
                self.report("duplicate-entry", obj, f"{path}[{index}]", value=describe(selector))
            seen.append(selector)

    def selector(self, selector: LabelSelector, obj: KubeObject, path: str) -> None:
        """Report what is malformed in a selector."""
        for fault in faults(selector):
            self.report("selector-invalid", obj, path + fault.path, fault=fault.text)

    def selects_something(
        self,
        selector: LabelSelector,
        among: Iterable[Mapping[str, str]],
        what: str,
        obj: KubeObject,
        path: str,
    ) -> None:
        """Warn of a well-formed selector that matches none of these labels."""
        if any(faults(selector)) or any(matches(selector, labels) for labels in among):
            return
        facts = {"what": what, "selector": describe(selector)}
        self.report("selector-selects-nothing", obj, path, **facts)

    def each_selects(
        self,
        selectors: Iterable[LabelSelector],
        among: Collection[Mapping[str, str]],
        what: str,
        obj: KubeObject,
        path: str,
    ) -> None:
        """Warn of each selector of a list that matches none of these labels."""
        for index, selector in enumerate(selectors):
            self.selects_something(selector, among, what, obj, f"{path}[{index}]")

    def each_selects_nodes(
        self, selectors: Iterable[LabelSelector], obj: KubeObject, path: str
    ) -> None:
        """Warn of each selector that matches no node, where nodes are known."""
        if self.node_labels:
            self.each_selects(selectors, self.node_labels.values(), "node", obj, path)

    def accept(
        self,
        objects: Iterable[K],
        compile_one: Callable[[K], V],
        previous: Mapping[str, V],
        admit: Callable[[K, V], bool] = lambda _obj, _value: True,
    ) -> dict[str, V]:
        """Compile each object; set aside, with its last good version if any, what has an error.

        Where two objects exclude one another, one that has not changed since the last good
        configuration comes before one that has, then the older before the younger. `admit` is
        called in that order, reports a conflict with what was admitted before, and says whether
        there was none.
        """
        compiled: list[tuple[K, V | None]] = []
        names: dict[str, K] = {}
        for obj in sorted(objects, key=age):
            before = self.errors()
            self._identity(obj, names)
            value = compile_one(obj) if obj.name else None
            compiled.append((obj, value if self.errors() == before else None))
        accepted: dict[str, V] = {}
        refused: list[tuple[K, V | None]] = []
        order = sorted(compiled, key=lambda item: item[1] != previous.get(item[0].name))
        for obj, value in order:
            before = len(self.problems)
            if value is not None and admit(obj, value):
                accepted[obj.name] = value
            elif value is not None or names.get(obj.name) is obj:
                refused.append((obj, value))
                del self.problems[before:]
        # Told against all that stays, or the list would depend on what was in force before.
        for obj, value in refused:
            if value is not None:
                admit(obj, value)
        for obj, _ in refused:
            good = previous.get(obj.name)
            before = len(self.problems)
            if good is not None and names.get(obj.name) is obj and admit(obj, good):
                accepted[obj.name] = good
                self.report("last-good-kept", obj)
            else:
                # The conflict of the last good version with the others is no news to the user.
                del self.problems[before:]
        return dict(sorted(accepted.items()))

    def _identity(self, obj: K, names: dict[str, K]) -> None:
        wanted = self.options.namespace
        if not obj.name:
            self.report("name-missing", obj, "metadata.name")
        elif wanted and obj.namespace != wanted:
            self.report(
                "wrong-namespace",
                obj,
                "metadata.namespace",
                namespace=obj.namespace or "(none)",
                wanted=wanted,
            )
        elif (other := names.setdefault(obj.name, obj)) is not obj:
            self.report("name-taken", obj, "metadata.name", [ref(other)], other=str(ref(other)))


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean x?` where a known name is close to this one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
