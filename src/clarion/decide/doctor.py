"""What `clarion doctor` checks: tables of checks, each a pure judgement over facts.

The facts are read by `edge.hostfacts`, `edge.clusterfacts` and `edge.neighbours`. A fact that could
not be read makes its checks `skipped`, with the reason: what was not looked at is never `ok`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

F = TypeVar("F")
Verdict = Literal["ok", "warning", "failed", "skipped"]
Scope = Literal["host", "cluster", "wire"]


class Judgement(msgspec.Struct, frozen=True):
    """What a check found.

    Attributes:
        says: One sentence.
        facts: What it rests on: plain values, for programs.
    """

    verdict: Verdict
    says: str
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


class Unread(msgspec.Struct, frozen=True):
    """Takes the place of a fact that could not be read."""

    why: str

    @property
    def skipped(self) -> Judgement:
        """The judgement of a check that needs the fact."""
        return Judgement("skipped", self.why)


class Check(msgspec.Struct, Generic[F], frozen=True):
    """One row of a table of checks.

    Attributes:
        code: Stable name.
        what: What is looked at.
        why: What breaks when it is not as it should be.
        remedy: What to do then.
        judge: Facts to judgement.
    """

    code: str
    scope: Scope
    what: str
    why: str
    remedy: str
    judge: Callable[[F], Judgement]


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check."""

    code: str
    scope: Scope
    verdict: Verdict
    what: str
    says: str
    why: str
    remedy: str
    facts: dict[str, Any] = msgspec.field(default_factory=dict)


def examine(checks: Iterable[Check[F]], facts: F | Unread) -> Iterator[Finding]:
    """Apply every check of a table; without facts all are skipped for that reason."""
    for check in checks:
        found = facts.skipped if isinstance(facts, Unread) else check.judge(facts)
        yield Finding(
            code=check.code,
            scope=check.scope,
            verdict=found.verdict,
            what=check.what,
            says=found.says,
            why=check.why,
            remedy=check.remedy,
            facts=found.facts,
        )


def ok(says: str, **facts: Any) -> Judgement:
    """Nothing stands against announcing."""
    return Judgement("ok", says, facts)


def warning(says: str, **facts: Any) -> Judgement:
    """It may work, or breaks only part of it."""
    return Judgement("warning", says, facts)


def failed(says: str, **facts: Any) -> Judgement:
    """Announcing is broken, or will be."""
    return Judgement("failed", says, facts)


def skipped(says: str, **facts: Any) -> Judgement:
    """It could not be looked at, or does not apply."""
    return Judgement("skipped", says, facts)


def checks_markdown(tables: Iterable[tuple[str, Sequence[Check[Any]]]]) -> str:
    """The manual's tables of checks."""
    lines: list[str] = []
    for title, checks in tables:
        lines += [f"### {title}", "", "| check | looks at | why | remedy |", "|---|---|---|---|"]
        lines += [f"| `{row.code}` | {row.what} | {row.why} | {row.remedy} |" for row in checks]
        lines.append("")
    return "\n".join(lines)
