"""What docs/compatibility.md claims is shown by tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "compatibility.md"
REFERENCE = re.compile(r"`(test_\w+\.py)::(test_\w+)(?:\[(.+)\])?`")
STANDS = ("**kept**", "**fixed**", "**absent**")


def rows() -> list[tuple[str, str, str]]:
    """What MetalLB does, what Clarion does, and what shows it."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[0] not in ("MetalLB", "---"):
            found.append((cells[0], cells[1], cells[3]))
    return found


@cache
def read_tests(name: str) -> tuple[str, frozenset[str]]:
    """The text of a test file and the names of its tests; units and properties may share a name."""
    paths = sorted(TESTS.rglob(name))
    assert paths, f"no file is named {name}"
    text = "\n".join(path.read_text() for path in paths)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = (node.name for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))
    return text, frozenset(names)


@pytest.mark.parametrize(("theirs", "ours", "shown"), rows(), ids=[row[0][:60] for row in rows()])
def test_a_claim_is_shown(theirs: str, ours: str, shown: str) -> None:
    assert ours.startswith(STANDS), "say kept, fixed or absent"
    found = REFERENCE.findall(shown)
    assert found or not ours.startswith("**fixed**"), "a fix without a test is a promise"
    for file, name, case in found:
        text, names = read_tests(file)
        assert name in names, f"{file} has no {name}"
        assert case in text, f"{file} has no case {case!r}"


def test_the_page_has_rows_and_every_stand() -> None:
    stands = {ours.split("**")[1] for _, ours, _ in rows()}
    assert stands == {"kept", "fixed", "absent"}
    assert len(rows()) > 60
