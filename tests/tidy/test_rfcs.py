"""`docs/rfcs.md` lists every clause of an RFC that is cited, in code and in tests.

UPDATE_GOLDEN=1 rewrites the page.
"""

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "clarion"
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "rfcs.md"
CODE = (
    *(f"proto/{part}/*.py" for part in ("bgp", "bfd", "nd", "l2", "pulse")),
    *(f"edge/{part}.py" for part in ("bgp*", "bfd*", "tcp", "icmp6", "packet")),
)
TITLES = {
    826: "An Ethernet Address Resolution Protocol",
    1071: "Computing the Internet Checksum",
    1997: "BGP Communities Attribute",
    2385: "Protection of BGP Sessions via the TCP MD5 Signature Option",
    2464: "Transmission of IPv6 Packets over Ethernet Networks",
    2545: "Use of BGP-4 Multiprotocol Extensions for IPv6 Inter-Domain Routing",
    2918: "Route Refresh Capability for BGP-4",
    3542: "Advanced Sockets Application Program Interface (API) for IPv6",
    3810: "Multicast Listener Discovery Version 2 (MLDv2) for IPv6",
    4007: "IPv6 Scoped Address Architecture",
    4271: "A Border Gateway Protocol 4 (BGP-4)",
    4291: "IP Version 6 Addressing Architecture",
    4360: "BGP Extended Communities Attribute",
    4443: "Internet Control Message Protocol (ICMPv6) for IPv6",
    4486: "Subcodes for BGP Cease Notification Message",
    4594: "Configuration Guidelines for DiffServ Service Classes",
    4724: "Graceful Restart Mechanism for BGP",
    4760: "Multiprotocol Extensions for BGP-4",
    4861: "Neighbor Discovery for IP version 6 (IPv6)",
    4862: "IPv6 Stateless Address Autoconfiguration",
    5065: "Autonomous System Confederations for BGP",
    5082: "The Generalized TTL Security Mechanism (GTSM)",
    5227: "IPv4 Address Conflict Detection",
    5291: "Outbound Route Filtering Capability for BGP-4",
    5492: "Capabilities Advertisement with BGP-4",
    5880: "Bidirectional Forwarding Detection (BFD)",
    5881: "Bidirectional Forwarding Detection (BFD) for IPv4 and IPv6 (Single Hop)",
    5882: "Generic Application of Bidirectional Forwarding Detection (BFD)",
    5883: "Bidirectional Forwarding Detection (BFD) for Multihop Paths",
    6085: "Address Mapping of IPv6 Multicast Packets on Ethernet",
    6286: "Autonomous-System-Wide Unique BGP Identifier for BGP-4",
    6608: "Subcodes for BGP Finite State Machine Error",
    6793: "BGP Support for Four-Octet Autonomous System (AS) Number Space",
    7313: "Enhanced Route Refresh Capability for BGP-4",
    7606: "Revised Error Handling for BGP UPDATE Messages",
    7607: "Codification of AS 0 Processing",
    8092: "BGP Large Communities Attribute",
    8538: "Notification Message Support for BGP Graceful Restart",
    8654: "Extended Message Support for BGP",
    8950: "Advertising IPv4 Network Layer Reachability Information (NLRI) with an IPv6 Next Hop",
    9003: "Extended BGP Administrative Shutdown Communication",
    9072: "Extended Optional Parameters Length for BGP OPEN Message",
    9384: "A BGP Cease NOTIFICATION Subcode for Bidirectional Forwarding Detection (BFD)",
    9687: "Border Gateway Protocol 4 (BGP-4) Send Hold Timer",
    9774: "Deprecation of AS_SET and AS_CONFED_SET in BGP",
    10005: "BGP Link Bandwidth Extended Community",
}

# Behind "RFC 4271" may stand numbers of further RFCs. "§3 c" is point c of a clause.
CITATION = re.compile(
    r"(?:RFC ?|\b(?=\d{3,5} §))(?P<rfcs>\d+(?:(?:, | and )\d{3,5}\b)*)"
    r"|§(?P<clause>[\d.]*\d)(?P<point> [b-k]\b| a(?=[,;:.)]|$))?(?: to §(?P<last>[\d.]*\d))?"
)


class Clause(NamedTuple):
    """A clause of an RFC; `number` is empty where the RFC is cited as a whole."""

    rfc: int
    number: tuple[int, ...] = ()
    point: str = ""

    def __str__(self) -> str:
        return f"RFC {self.rfc} {self.name}" if self.number else f"RFC {self.rfc}"

    @property
    def name(self) -> str:
        return "§" + ".".join(map(str, self.number)) + self.point if self.number else "as a whole"

    def holds(self, other: Self) -> bool:
        """Whether the other one is this clause or a part of it."""
        if self.point:
            return self == other
        return self.rfc == other.rfc and other.number[: len(self.number)] == self.number


class Citation(NamedTuple):
    """`place` is a function, method or class of a module; empty for the module itself."""

    clause: Clause
    module: str
    place: str


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def clauses(passage: str, rfc: int) -> Iterator[Clause]:
    """What one comment or text cites; `rfc` is the one meant by a clause that stands alone."""
    whole = False
    for found in CITATION.finditer(" ".join(passage.split())):
        if found["rfcs"]:
            *others, last = map(int, re.findall(r"\d+", found["rfcs"]))
            yield from map(Clause, [rfc, *others] if whole else others)
            rfc, whole = last, True
            continue
        whole = False
        first = numbers(found["clause"])
        until = numbers(found["last"])[-1] if found["last"] else first[-1]
        for final in range(first[-1], until + 1):
            yield Clause(rfc, (*first[:-1], final), found["point"] or "")
    if whole:
        yield Clause(rfc)


def passages(text: str) -> Iterator[tuple[int, str]]:
    """Every text, and every comment with the lines it goes on in; each with its first line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    start, comment, last = 0, "", 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, goes_on = token.start[0], not token.line[: token.start[1]].strip()
        if not (goes_on and line == last + 1):
            yield start, comment
            start, comment = line, ""
        comment, last = f"{comment} {token.string.lstrip('#')}", line
    yield start, comment


def place_of(tree: ast.Module, line: int) -> str:
    """The class, method or function a line stands in, its decorators included."""
    names: list[str] = []
    inner: list[ast.stmt] = tree.body
    while inner:
        within, inner = inner, []
        for node in within:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            start = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            if start <= line <= (node.end_lineno or node.lineno):
                names.append(node.name)
                inner = node.body if isinstance(node, ast.ClassDef) else []
    return ".".join(names)


def citations(root: Path, paths: Iterable[Path]) -> Iterator[Citation]:
    for path in sorted(paths):
        text = path.read_text()
        if "§" not in text and "RFC" not in text:
            continue
        tree = ast.parse(text)
        module = path.relative_to(root).with_suffix("").as_posix().removesuffix("/__init__")
        named = re.search(r"RFC ?(\d+)", ast.get_docstring(tree) or "")
        for line, passage in passages(text):
            for clause in clauses(passage, int(named[1]) if named else 0):
                yield Citation(clause, module, place_of(tree, line))


@cache
def in_code() -> list[Citation]:
    return list(citations(PACKAGE, (path for part in CODE for path in PACKAGE.glob(part))))


@cache
def in_tests() -> list[Citation]:
    here = Path(__file__).parent
    return list(citations(TESTS, (path for path in TESTS.rglob("*.py") if path.parent != here)))


def cell(found: Iterable[Citation]) -> str:
    """The places of each module, in the order of their names."""
    places: dict[str, set[str]] = {}
    for item in found:
        places.setdefault(item.module, set()).add(item.place)
    return "; ".join(
        f"`{module}` {', '.join(sorted(filter(None, places[module])))}".rstrip()
        for module in sorted(places)
    )


def page(code: list[Citation], tests: list[Citation]) -> str:
    lines = [
        "# RFCs, clause by clause",
        "",
        "Made from the citations in the code that speaks with the network, and in the tests: where",
        "a clause is enforced, and what tests it. A module stands alone where it cites the clause",
        "for all it holds. `tests/tidy/test_rfcs.py` fails when `proto/bgp`, `proto/bfd` or",
        "`proto/nd` cite a clause that no test cites.",
    ]
    for rfc in sorted({item.clause.rfc for item in code}):
        lines += [
            "",
            f"## RFC {rfc}: {TITLES[rfc]}",
            "",
            "| Clause | Code | Tests |",
            "|---|---|---|",
        ]
        for clause in sorted({item.clause for item in code + tests if item.clause.rfc == rfc}):
            where = [
                cell(item for item in found if item.clause == clause) for found in (code, tests)
            ]
            lines.append(f"| {clause.name} | {where[0]} | {where[1]} |")
    return "\n".join(lines) + "\n"


def test_the_page_of_clauses_is_current() -> None:
    made = page(in_code(), in_tests())
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(made)
    assert PAGE.read_text() == made, "run: UPDATE_GOLDEN=1 make check"


def test_every_rfc_that_is_cited_has_its_title() -> None:
    assert set(TITLES) == {item.clause.rfc for item in in_code()}


def test_every_citation_names_its_rfc() -> None:
    unnamed = [
        f"{item.module}: {item.clause.name}"
        for item in in_code() + in_tests()
        if not item.clause.rfc
    ]
    assert not unnamed, f"write RFC 4271 §6.2, or name the RFC in the module's docstring: {unnamed}"


def test_what_the_protocols_cite_is_tested() -> None:
    tested = {item.clause for item in in_tests()}
    missing = {
        str(item.clause): item.module
        for item in in_code()
        if item.module.startswith(("proto/bgp", "proto/bfd", "proto/nd"))
        and item.clause.number
        and not any(item.clause.holds(clause) for clause in tested)
    }
    assert not missing, f"cited in no test, or in none that was found: {missing}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RFC 4271 §6.2: words", ["RFC 4271 §6.2"]),
        ("(RFC 4724 §4.2, §5; RFC 6286 §2.3)", ["RFC 4724 §4.2", "RFC 4724 §5", "RFC 6286 §2.3"]),
        ("RFC 4271 §6.3 to §6.5", ["RFC 4271 §6.3", "RFC 4271 §6.4", "RFC 4271 §6.5"]),
        ("RFC 7606 §3 c, §3 g", ["RFC 7606 §3 c", "RFC 7606 §3 g"]),
        ("RFC 4271 §4.3 a)", ["RFC 4271 §4.3 a"]),
        ("RFC 5880 §6.8 a session", ["RFC 5880 §6.8"]),
        ("RFC 1997, 4360 and\n    RFC 8092", ["RFC 1997", "RFC 4360", "RFC 8092"]),
        ("RFC 4271\n    §8", ["RFC 4271 §8"]),
        ("§6.8.3", ["RFC 5880 §6.8.3"]),
        ("4271 §6.3, §6.4; 7606 §7", ["RFC 4271 §6.3", "RFC 4271 §6.4", "RFC 7606 §7"]),
    ],
)
def test_citations_are_read(text: str, found: list[str]) -> None:
    assert [str(clause) for clause in clauses(text, 5880)] == found
