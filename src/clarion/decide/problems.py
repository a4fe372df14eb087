"""What can be wrong with configuration: a registry of codes, and `Problem`, a code with its facts.

A problem is *transient* when it is about a reference to something that does not exist yet: objects
may be created in any order, so admission lets it pass and the object waits.
"""

import msgspec

from clarion.decide.problem_rows import CHAPTERS, PROBLEMS, ProblemRow, Severity
from clarion.decide.registry import Fact, fill


class ObjectRef(msgspec.Struct, frozen=True, order=True):
    """Which object is meant."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with one object.

    Attributes:
        path: The field, as `spec.addresses[1]`.
        facts: What the texts of the code are filled with.
        related: The other objects concerned.
    """

    code: str
    object: ObjectRef
    path: str = ""
    facts: dict[str, Fact] = msgspec.field(default_factory=dict)
    related: tuple[ObjectRef, ...] = ()

    @property
    def row(self) -> ProblemRow:
        """The registry's entry."""
        return PROBLEMS[self.code]

    @property
    def severity(self) -> Severity:
        """`error`: the object is set aside. `warning`: it works, but hardly as meant."""
        return self.row.severity

    @property
    def transient(self) -> bool:
        """True if creating another object solves it."""
        return self.row.transient

    @property
    def message(self) -> str:
        """What is wrong."""
        return fill(self.row.text, self.facts)

    @property
    def remedy(self) -> str:
        """What to do."""
        return fill(self.row.remedy, self.facts)

    @property
    def order(self) -> tuple[ObjectRef, str, str, str]:
        """Key by which problems are listed."""
        return self.object, self.path, self.code, str(sorted(self.facts.items()))


def problems_markdown() -> str:
    """The manual's page of problems."""
    lines = [
        "# Problems",
        "",
        "What can be wrong with configuration. `clarion validate` prints these, each with file,",
        "line, object, field and remedy; admission refuses the errors, and ConfigurationState",
        "repeats them. This page lists them all; it is made from the program itself.",
        "",
        "An **error** sets its object aside: its last good version stays in force while the",
        "program runs, and the rest goes on. One that *waits* is about an object that may still",
        "be created: admission lets it pass. With a **warning** the object is used, but hardly",
        "works as meant; MetalLB accepts it in silence.",
    ]
    for title, rows in CHAPTERS:
        lines += ["", f"## {title}", "", "| | code | says | remedy |", "|---|---|---|---|"]
        for row in rows:
            kind = f"{row.severity}, waits" if row.transient else row.severity
            lines.append(f"| {kind} | `{row.code}` | {row.text} | {row.remedy} |")
    return "\n".join(lines) + "\n"


__all__ = ["PROBLEMS", "ObjectRef", "Problem", "ProblemRow", "Severity", "problems_markdown"]
