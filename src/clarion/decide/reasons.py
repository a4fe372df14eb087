"""Why something was decided: a registry of codes, and `Reason`, a code with its facts.

Reasons come out of the decisions themselves. `explain`, events, conditions, logs and the manual's
page show these texts and no others.
"""

import msgspec

from clarion.decide.reason_rows import ALLOCATION, BGP, L2, NODES, ReasonRow, Verdict
from clarion.decide.reason_rows_answers import CHANGES, PROGRAMS, QUESTIONS, SESSIONS
from clarion.decide.registry import Fact, fill, index


class Reason(msgspec.Struct, frozen=True, gc=False):
    """A reason: a code and the facts of this case."""

    code: str
    facts: dict[str, Fact]

    @property
    def row(self) -> ReasonRow:
        """The registry's entry."""
        return REASONS[self.code]

    @property
    def verdict(self) -> Verdict:
        """Whether it speaks for or against."""
        return self.row.verdict

    @property
    def text(self) -> str:
        """The case in words."""
        return fill(self.row.text, self.facts)

    @property
    def remedy(self) -> str:
        """What to change."""
        return fill(self.row.remedy, self.facts)

    def __str__(self) -> str:
        return self.text


def reason(code: str, **facts: Fact) -> Reason:
    """A reason of a registered code."""
    assert code in REASONS, code
    return Reason(code, facts)


REASONS: dict[str, ReasonRow] = index(
    (*ALLOCATION, *NODES, *L2, *BGP, *QUESTIONS, *PROGRAMS, *SESSIONS, *CHANGES)
)
"""Every kind of reason, by code."""

_CHAPTERS = (
    ("Addresses of services", ALLOCATION),
    ("Nodes and endpoints", NODES),
    ("Layer 2", L2),
    ("BGP", BGP),
    ("Answers of `explain`", QUESTIONS),
    ("What programs report", PROGRAMS),
    ("Why a session is not established", SESSIONS),
    ("Differences in `plan --against`", CHANGES),
)
_SIGNS = {"yes": "+", "no": "-", "note": "i"}


def reasons_markdown() -> str:
    """The manual's page of reasons."""
    lines = [
        "# Reasons",
        "",
        "Every decision of Clarion carries reasons: `clarion explain` prints them, events and",
        "conditions repeat them. This page lists them all; it is made from the program itself.",
        "`+` speaks for what is asked, `-` against it, `i` adds a circumstance.",
    ]
    for title, rows in _CHAPTERS:
        lines += ["", f"## {title}", "", "| | code | says | arises when | remedy |"]
        lines.append("|---|---|---|---|---|")
        for row in rows:
            sign, text = _SIGNS[row.verdict], row.text.replace("|", "\\|")
            lines.append(f"| {sign} | `{row.code}` | {text} | {row.cause} | {row.remedy} |")
    return "\n".join(lines) + "\n"
