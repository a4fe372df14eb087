"""`docs/rfcs.md`: every clause that the protocol code cites, and the tests that cite it too."""

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "rfcs.md"
CODE = ("src/clarion/proto", "src/clarion/edge")
TESTS = ("tests",)
RFC = re.compile(r"RFC (\d{3,5})\b")
CLAUSE = re.compile(r"(?:,|, and| and| to|;)?\s*§(\d+(?:\.\d+)*|[A-Z]\b)")
HEAD = """# RFCs

Made from the sources: each clause that protocol code cites, where it is enforced, and which tests
cite it. A clause stands beside its RFC as `RFC 4271 §6.2`; a citation without a section is the row
`whole`. A clause without a test of its name is one that only broader tests meet.

"""

Clause = tuple[int, str]


def clauses(text: str) -> set[Clause]:
    """Citations in a text; `RFC 7606 §7.1, §7.2` are two."""
    text = re.sub(r"\n\s*(#:?\s*)?", " ", text)
    found: set[Clause] = set()
    for hit in RFC.finditer(text):
        number, place = int(hit[1]), hit.end()
        sections = []
        while section := CLAUSE.match(text, place):
            sections.append(section[1])
            place = section.end()
        found |= {(number, section) for section in sections or [""]}
    return found


def cited(folders: tuple[str, ...]) -> dict[Clause, set[str]]:
    found: dict[Clause, set[str]] = defaultdict(set)
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path == Path(__file__):
                continue
            for clause in clauses(path.read_text()):
                found[clause].add(str(path.relative_to(ROOT)).removeprefix("src/clarion/"))
    return found


def order(clause: Clause) -> tuple[int, list[tuple[int, str]]]:
    parts = [(int(each), "") if each.isdigit() else (0, each) for each in clause[1].split(".")]
    return clause[0], parts


def page() -> str:
    enforced, tested = cited(CODE), cited(TESTS)
    lines, last = [HEAD.rstrip()], 0
    for clause in sorted(enforced, key=order):
        if clause[0] != last:
            last = clause[0]
            lines += ["", f"## RFC {last}", "", "| clause | enforced in | tests |", "|---|---|---|"]
        section = f"§{clause[1]}" if clause[1] else "whole"
        cells = (_files(enforced[clause]), _files(tested.get(clause, set())))
        lines.append(f"| {section} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _files(paths: set[str]) -> str:
    return ", ".join(f"`{path}`" for path in sorted(paths))


def test_the_page_of_rfcs_is_current() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "run: UPDATE_GOLDEN=1 make check"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RFC 4271 §6.2", {(4271, "6.2")}),
        ("(RFC 7606 §7.5, §7.9 and §7.10)", {(7606, "7.5"), (7606, "7.9"), (7606, "7.10")}),
        ("RFC 1997, 4360", {(1997, "")}),
        ("RFC 5082; see\n    # RFC 4271\n    # §8", {(5082, ""), (4271, "8")}),
    ],
)
def test_citations_are_read(text: str, found: set[Clause]) -> None:
    assert clauses(text) == found
