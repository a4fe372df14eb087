"""Malformed messages sent to our speaker and to four makes of router: what each does about them.

Ours must do what the row's clause asks for; `docs/bgp-malformed.md` tells how the others differ.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.lab.process import wait_until
from clarion.lab.routerbase import Neighbor, Router
from clarion.proto.bgp.config import PeerConfig
from clarion.proto.bgp.iana import FAMILY_OF_VERSION

from .bgp_bed import BOTH, KINDS, Configured, Speaker, router_address, router_config
from .bgp_malformed import ROWS
from .bgp_malformed_bytes import (
    GOES,
    HOLD_SECONDS,
    STAYS,
    THEIR_ASN,
    UP,
    Row,
    meets,
    outcome,
)
from .bgp_malformed_reasons import REASONS, TEXTS, why
from .bgp_raw_main import Heard, Job
from .conftest import Segment

pytestmark = pytest.mark.lab

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bgp-malformed.md"
PROGRAM = Path(__file__).with_name("bgp_raw_main.py")
TARGET, RAW = 23, 24
# What nobody else has on the shared segment.
SOURCES = [n for n in range(61, 250) if n not in (99, 100, 101, 102, 110, 111, 112)]
ROUTES = {4: "203.0.113.7/32", 6: "2001:db8:ff::7/128"}
MARKED = "198.51.100.0/24"
OURS = "clarion"
NAMES = {
    OURS: "Clarion",
    "frr": "FRR 8.4",
    "bird": "BIRD 2.0",
    "gobgp": "GoBGP 3",
    "openbgpd": "OpenBGPD",
}
HEAD = """# Malformed BGP messages

Made by `tests/lab/test_bgp_malformed.py`, which sends each row to Clarion and to four makes of
router. `1/2 0012` is a NOTIFICATION with its code, subcode and data; the data is shown, up to 32
octets of it, where the clause says what it has to be. *up* is a session that is kept, and, where a
route had been announced before, whether it *stays* or *goes*; *closed* an end without a word;
*silent* neither an end nor a KEEPALIVE; *the daemon ends* that a message of this kind crashes the
whole router (seen by hand; the test does not send it). What differs from the clause is in bold,
with the number of the reason at the end of the page.

Clarion does what the clause asks for, in every row.
"""

Table = dict[str, list[str]]
ENDS = {
    (who, chapter, name, "Established"): "the daemon ends"
    for who, chapter, name in (
        ("gobgp", "Header", "type 0"),
        ("gobgp", "Header", "type 6"),
        ("gobgp", "Header", "type 255"),
        ("gobgp", "State", "OPEN"),
    )
}
"""What is not sent to whom, and why: GoBGP 3.10 dereferences nil there."""


def source(number: int) -> str:
    return f"192.0.2.{SOURCES[number]}"


@pytest.fixture
def targets(
    segment: Segment, configured: Configured
) -> Iterator[tuple[Speaker, dict[str, Router]]]:
    """Everybody waits for a peer per row."""
    raw = segment.host("raw", RAW)
    addresses = [f"{source(number)}/24" for number in range(len(ROWS))]
    for address in addresses:
        raw.ip("addr", "add", address, "dev", "eth0")
    neighbors = [
        Neighbor(
            address=source(number),
            remote_as=row.asn,
            families=BOTH,
            passive=True,
            hold_time=HOLD_SECONDS,
            keepalive=1,
        )
        for number, row in enumerate(ROWS)
    ]
    with ThreadPoolExecutor(len(KINDS)) as pool:
        made = pool.map(lambda kind: configured(kind, router_config(kind, *neighbors)), KINDS)
        running = dict(zip(KINDS, made, strict=True))
    speaker = Speaker(segment.host("target", TARGET))
    speaker.peers(
        *(
            PeerConfig(
                name=str(number),
                local_asn=THEIR_ASN,
                peer_asn=row.asn,
                peer_address=parse_address(source(number)),
                hold_time=float(HOLD_SECONDS),
                keepalive_time=1.0,
                passive=True,
            )
            for number, row in enumerate(ROWS)
        )
    )
    yield speaker, running
    speaker.stop()
    for address in addresses:
        raw.ip("addr", "del", address, "dev", "eth0")


def job(number: int, row: Row, who: str) -> Job:
    opening = row.opening(parse_address(source(number)))
    target = f"192.0.2.{TARGET}" if who == OURS else router_address(who)
    mark = b"" if who == OURS else row.mark  # we do one after the other
    return Job(source(number), target, row.state, opening, row.announces, row.octets, mark)


def ends(who: str, row: Row) -> str:
    """Why the row is not sent to this one; empty where it is."""
    return ENDS.get((who, row.chapter, row.name, row.state), "")


def kept(asked: list[tuple[str, int]], heard: list[Heard]) -> dict[str, set[str]]:
    """Whose sessions each router has kept in rows that ask for its routes."""
    found: dict[str, set[str]] = {kind: set() for kind in (OURS, *KINDS)}
    for (who, number), each in zip(asked, heard, strict=True):
        if each.end == UP and ROWS[number].mark:
            found[who].add(source(number))
    return found


def await_marks(running: dict[str, Router], marked: dict[str, set[str]]) -> None:
    """Until everybody has read on behind the rows; KEEPALIVEs do not tell of OpenBGPD's tables."""

    def missing() -> dict[str, set[str]]:
        left = {}
        for kind, router in running.items():
            paths = router.bgp_routes(4).get(MARKED, [])
            left[kind] = marked[kind] - {path.peer for path in paths}
        return left

    wait_until(lambda: not any(missing().values()), 30, "all rows are read", seen=missing)


def holders(router: Router) -> dict[int, set[str]]:
    """Who has announced each of the two routes, as the router sees it."""
    return {
        version: {path.peer for path in router.bgp_routes(version).get(prefix, [])}
        for version, prefix in ROUTES.items()
    }


def test_malformed_messages(
    segment: Segment, targets: tuple[Speaker, dict[str, Router]], tmp_path: Path
) -> None:
    speaker, running = targets
    asked = [(who, n) for who in NAMES for n, row in enumerate(ROWS) if not ends(who, row)]
    jobs = [job(n, ROWS[n], who) for who, n in asked]
    plan, results = tmp_path / "jobs", tmp_path / "results"
    plan.write_bytes(msgspec.json.encode(jobs))
    raw = segment.host("raw", RAW)
    program = raw.popen([sys.executable, str(PROGRAM), str(plan), str(results)], log="raw.log")
    try:
        wait_until(results.exists, 60, "every peer has been heard", seen=program.tail)
        heard = msgspec.json.decode(results.read_bytes(), type=list[Heard])
        await_marks(running, kept(asked, heard))
        seen = {kind: holders(router) for kind, router in running.items()}
        status = speaker.status
    finally:
        program.stop()
    table: Table = {who: [ends(who, row) for row in ROWS] for who in NAMES}
    for (who, number), each in zip(asked, heard, strict=True):
        row = ROWS[number]
        if who == OURS:
            counts = {each.family: each.prefixes for each in status[str(number)].inbound}
            has = counts.get(FAMILY_OF_VERSION[row.version], 0) > 0
        else:
            has = source(number) in seen[who][row.version]
        said = outcome(row, each.end, has_route=has)
        if who == "bird" and said.startswith("2/1"):
            said = "2/1 varying data"
        table[who][number] = said
    wrong = [
        f"{row.chapter}: {row.name}: {said} instead of {row.wants} ({row.clause})"
        for row, said in zip(ROWS, table[OURS], strict=True)
        if not meets(row, said)
    ]
    assert not wrong, "\n".join(wrong)
    text = page(table)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "run with UPDATE_GOLDEN=1 if a router changed its ways"


def cell(who: str, row: Row, said: str) -> str:
    """What somebody did, in bold and with the number of a reason where the clause wants other."""
    return said if meets(row, said) else f"**{said}** ({why(who, row, said)})"


def page(table: Table) -> str:
    """The whole comparison."""
    lines, chapter = [HEAD], ""
    for number, row in enumerate(ROWS):
        if row.chapter != chapter:
            chapter = row.chapter
            lines += [
                f"## {chapter}",
                "",
                f"| message | in | {' | '.join(NAMES.values())} | clause |",
            ]
            lines.append("|---" * (len(NAMES) + 3) + "|")
        cells = [cell(who, row, table[who][number]) for who in NAMES]
        lines.append(f"| {row.name} | {row.state} | {' | '.join(cells)} | {row.clause} |")
        if number + 1 == len(ROWS) or ROWS[number + 1].chapter != chapter:
            lines.append("")
    lines += ["## Why they differ", ""]
    lines += ["Each number stands for what the router does there.", ""]
    lines += [f"{n}. It {text}" for n, text in enumerate(TEXTS, 1)]
    return "\n".join(lines) + "\n"


def test_the_table_is_large_and_its_rows_are_told_apart() -> None:
    assert len(ROWS) >= 60
    assert len({(row.chapter, row.name, row.state) for row in ROWS}) == len(ROWS)
    assert len(ROWS) <= len(SOURCES)
    assert {row.wants for row in ROWS} > {UP, STAYS, GOES, "closed"}
    assert {each.who for each in REASONS} == set(KINDS)
