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

from .bgp_bed import BOTH, KINDS, THEIR_ASN, US4, Configured, Speaker, router_address, router_config
from .bgp_malformed import ANNOUNCE, ASN, GOES, ROWS, STAYS, UP, Row, preface
from .bgp_raw_main import Heard, Job
from .conftest import Segment

pytestmark = pytest.mark.lab

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bgp-malformed.md"
PROGRAM = Path(__file__).with_name("bgp_raw_main.py")
FIRST = 100
ROUTES = ("203.0.113.7/32", "2001:db8:ff::7/128")
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
router. `1/2 0012` is a NOTIFICATION with its code, subcode and data; *up* a session that is kept,
and, where a route had been announced before, whether it *stays* or *goes*; *closed* an end without
a word; *silent* neither an end nor a KEEPALIVE; *the daemon ends* that a message of this kind
crashes the whole router (seen by hand; the test does not send it). What differs from the clause is
in bold.

Clarion does what the clause asks for. The others differ where they keep to RFC 4271 alone (a
NOTIFICATION where RFC 7606 wants the route withdrawn), repeat other data, close without a word, or
leave out a check that costs only the sender.
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
VARYING = ("2/1", "2/2")
"""BIRD 2.0.12 puts other octets into the data of these each time."""


def source(number: int) -> str:
    return f"192.0.2.{FIRST + number}"


@pytest.fixture
def targets(
    segment: Segment, configured: Configured
) -> Iterator[tuple[Speaker, dict[str, Router]]]:
    """Everybody waits for a peer per row."""
    raw = segment.host("raw", FIRST - 1)
    neighbors = []
    for number in range(len(ROWS)):
        raw.ip("addr", "add", f"{source(number)}/24", "dev", "eth0")
        neighbors.append(
            Neighbor(
                address=source(number),
                remote_as=ASN,
                families=BOTH,
                passive=True,
                hold_time=3,
                keepalive=1,
            )
        )
    with ThreadPoolExecutor(len(KINDS)) as pool:
        made = pool.map(lambda kind: configured(kind, router_config(kind, *neighbors)), KINDS)
        running = dict(zip(KINDS, made, strict=True))
    speaker = Speaker(segment.host("target", 21))
    speaker.peers(
        *(
            PeerConfig(
                name=str(number),
                local_asn=THEIR_ASN,
                peer_asn=ASN,
                peer_address=parse_address(source(number)),
                hold_time=3.0,
                passive=True,
            )
            for number in range(len(ROWS))
        )
    )
    yield speaker, running
    speaker.stop()


def job(number: int, row: Row, target: str) -> Job:
    opening = preface(parse_address(source(number)))
    return Job(source(number), target, row.state, opening, ANNOUNCE, row.octets)


def prefix_of(row: Row) -> str:
    return ROUTES["MP_" in row.name or row.name.startswith("MP")]


def ends(who: str, row: Row) -> str:
    """Why the row is not sent to this one; empty where it is."""
    return ENDS.get((who, row.chapter, row.name, row.state), "")


def outcome(row: Row, heard: Heard, has_route: bool) -> str:
    """In the words of the table."""
    if heard.end == "up" and row.wants in (STAYS, GOES):
        return STAYS if has_route else GOES
    if heard.end in ("up", "closed", "silent"):
        return heard.end
    body = bytes.fromhex(heard.end)
    return f"{body[0]}/{body[1]} {body[2:34].hex()}".strip()


def holders(router: Router) -> dict[str, set[str]]:
    """Who has announced each of the two routes, as the router sees it."""
    found: dict[str, set[str]] = {}
    for version, prefix in zip((4, 6), ROUTES, strict=True):
        found[prefix] = {path.peer for path in router.bgp_routes(version).get(prefix, [])}
    return found


def test_malformed_messages(
    segment: Segment, targets: tuple[Speaker, dict[str, Router]], tmp_path: Path
) -> None:
    speaker, running = targets
    addresses = {OURS: US4.replace(".20", ".21")} | {kind: router_address(kind) for kind in KINDS}
    asked = [(who, n) for who in addresses for n, row in enumerate(ROWS) if not ends(who, row)]
    jobs = [job(n, ROWS[n], addresses[who]) for who, n in asked]
    plan, results = tmp_path / "jobs", tmp_path / "results"
    plan.write_bytes(msgspec.json.encode(jobs))
    raw = segment.host("raw", FIRST - 1)
    program = raw.popen([sys.executable, str(PROGRAM), str(plan), str(results)], log="raw.log")
    try:
        wait_until(results.exists, 60, "every peer has been heard", seen=program.tail)
        heard = msgspec.json.decode(results.read_bytes(), type=list[Heard])
        seen = {kind: holders(router) for kind, router in running.items()}
        status = speaker.status
    finally:
        program.stop()
    table: Table = {who: [ends(who, row) for row in ROWS] for who in addresses}
    for (who, number), each in zip(asked, heard, strict=True):
        row = ROWS[number]
        if who == OURS:
            has = status[str(number)].prefixes_received >= 2
        else:
            has = source(number) in seen[who][prefix_of(row)]
        said = outcome(row, each, has)
        if who == "bird" and said[:3] in VARYING:
            said = f"{said[:3]} varying data"
        table[who][number] = said
    text = page(table)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text)
    wrong = [
        f"{row.chapter}: {row.name}: {said} instead of {row.wants} ({row.clause})"
        for row, said in zip(ROWS, table[OURS], strict=True)
        if not meets(row, said)
    ]
    assert not wrong, "\n".join(wrong)


def meets(row: Row, said: str) -> bool:
    """Whether an outcome is what the clause asks for; data only where the clause names it."""
    return said == row.wants or (" " not in row.wants and said.startswith(row.wants))


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
        cells = [
            said if meets(row, said) else f"**{said}**"
            for said in (table[who][number] for who in NAMES)
        ]
        lines.append(f"| {row.name} | {row.state} | {' | '.join(cells)} | {row.clause} |")
        if number + 1 == len(ROWS) or ROWS[number + 1].chapter != chapter:
            lines.append("")
    return "\n".join(lines)


def test_the_table_is_large_and_its_rows_are_told_apart() -> None:
    assert len(ROWS) >= 60
    assert len({(row.chapter, row.name, row.state) for row in ROWS}) == len(ROWS)
    assert FIRST + len(ROWS) < 250
    assert {row.wants for row in ROWS} > {UP, STAYS, GOES, "closed"}
