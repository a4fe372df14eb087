"""What kubectl, `clarion status`, `explain` and the metrics tell of sessions that are up or not.

Both back ends obey the same objects; the faults are real ones at real routers and hosts.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from clarion.lab.netns import Lab, sweep
from clarion.lab.nodes import SYSTEM_NAMESPACE

from .backend_bed import (
    API,
    BACK_ENDS,
    DRIVEN,
    NATIVE,
    NODES_ASN,
    PEERS,
    TIMERS,
    Bed,
    openbgpd_config,
    peer,
)
from .conftest import TEST_PREFIX
from .programs_bed import metallb

pytestmark = pytest.mark.lab

NOBODY = "192.0.2.77"


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}o") as lab:
        made = Bed(lab)
        made.up()
        made.wait_default()
        yield made


def sessions(bed: Bed) -> dict[tuple[str, str], dict[str, Any]]:
    """The status of each BGPSession, by node and peer."""
    found = bed.api.items("bgpsessions", "-n", SYSTEM_NAMESPACE)
    told = [each.get("status", {}) for each in found]
    return {(each["node"], each["peer"]): each for each in told if each}


def wait_state(bed: Bed, state: str) -> None:
    def there() -> bool:
        return all(
            sessions(bed).get((node, name), {}).get("state") == state
            for node in BACK_ENDS
            for name in PEERS
        )

    bed.wait(f"all sessions are {state}", there, seen=lambda: sessions(bed))


def rows(bed: Bed) -> dict[tuple[str, str], dict[str, str]]:
    """What `clarion status` shows of the sessions."""
    shown = json.loads(bed.api.clarion("status", "-o", "json"))["Sessions"]
    return {(row["node"], row["peer"]): row for row in shown}


def test_sessions_that_are_up(bed: Bed) -> None:
    wait_state(bed, "Established")
    printed = bed.api.kubectl("get", "bgpsessions", "-n", SYSTEM_NAMESPACE).splitlines()
    assert printed[0].split()[1:6] == ["NODE", "PEER", "STATE", "BFD", "SINCE"]
    assert len(printed) == 1 + len(BACK_ENDS) * len(PEERS)

    def counted() -> bool:
        return all(rows(bed)[node, "frr"]["prefixes"] == "1" for node in BACK_ENDS)

    bed.wait("what is announced is counted", counted, seen=lambda: rows(bed))
    for node in BACK_ENDS:
        row = rows(bed)[node, "frr"]
        assert (row["state"], row["why not"]) == ("Established", "-")
        assert row["since"].endswith("Z")
        told = sessions(bed)[node, "frr"]
        assert told["holdTime"] == 9000
        assert told["remoteASN"] == 64512
        assert told["prefixes"]["announced"] == 1
        assert {"4-octet-asn", "route-refresh"} <= set(told["capabilities"]["agreed"])
    said = bed.api.clarion("explain", "peer", "frr")
    assert f"session of {NATIVE}: Established since" in said
    assert "hold time 9s" in said
    assert "ipv4-unicast: sent with next hop 192.0.2.11" in said
    bed.wait_metric('clarion_bgp_session_state{peer="192.0.2.1:179",vrf="default"} 6.0')
    bed.wait_metric('clarion_bgp_session_flaps_total{peer="192.0.2.1:179",vrf="default"} 0.0')


def test_nothing_is_written_at_rest(bed: Bed) -> None:
    """Keepalives go every 3 s; no object changes meanwhile."""
    wait_state(bed, "Established")
    bed.wait(
        "counts are written", lambda: all("prefixes" in each for each in sessions(bed).values())
    )

    def versions() -> dict[str, str]:
        found = bed.api.items("bgpsessions", "-n", SYSTEM_NAMESPACE)
        return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in found}

    def keepalives() -> int:
        lines = bed.metrics(NATIVE).splitlines()
        name = 'metallb_bgp_keepalives_received{peer="192.0.2.1:179",vrf="default"} '
        return next(int(float(line.split()[-1])) for line in lines if line.startswith(name))

    def at_rest() -> bool:
        before, heard = versions(), keepalives()
        bed.wait("three more keepalives", lambda: keepalives() >= heard + 3)
        return versions() == before

    # What followed the last news, a count that settled, may still be under way at first.
    bed.wait("three keepalives go by and nothing is written", at_rest)


def test_why_a_session_is_down(bed: Bed) -> None:
    """Each fault has its reason; the router's or the kernel's words are in it."""
    secret = metallb("BGPPeer", "frr", "v1beta2", myASN=NODES_ASN, **PEERS["frr"], **TIMERS)
    secret["spec"]["password"] = "not-the-routers"
    alone = {"kubernetes.io/hostname": NATIVE}  # two speakers would hear each other
    made = {
        name: metallb("BGPPeer", name, "v1beta2", myASN=NODES_ASN, peerASN=64999, **at, **TIMERS)
        for name, at in (
            ("closed", {"peerAddress": API}),
            ("nobody", {"peerAddress": NOBODY}),
            ("absent", {"interface": "absent0"}),
            ("unheard", {"interface": "eth0", "nodeSelectors": [{"matchLabels": alone}]}),
        )
    }
    wrong_asn = openbgpd_config(nodes_asn=64998)
    native = {
        "openbgpd": "session-wrong-asn",
        "frr": "session-no-answer",
        "closed": "session-port-closed",
        "nobody": "session-no-route",
        "absent": "session-no-interface",
        "unheard": "session-unheard",
    }
    bed.openbgpd.configure(wrong_asn)
    try:
        with bed.applied(secret, *made.values()):
            for name, code in native.items():
                bed.wait(
                    f"{name}: {code}",
                    lambda name=name, code=code: code in codes(bed, name, NATIVE),  # type: ignore[misc]
                    seen=lambda: rows(bed),
                )
            bed.wait(
                "FRR tells of the wrong AS number too",
                lambda: "session-wrong-asn" in codes(bed, "openbgpd", DRIVEN),
                seen=lambda: rows(bed),
            )
            said = bed.api.clarion("explain", "peer", "openbgpd")
            assert "Bad Peer AS" in said
            assert "compare myASN, localASN and peerASN" in said
            assert rows(bed)[NATIVE, "closed"]["why not"].startswith("nothing listens there")
            names = {name for _, name in sessions(bed)}
            assert made.keys() <= names
            assert "not-the-routers" not in json.dumps(bed.api.items("bgpsessions", "-A"))
    finally:
        bed.openbgpd.configure(openbgpd_config())
    wait_state(bed, "Established")

    def gone() -> bool:
        return not {name for _, name in sessions(bed)} & set(made)

    bed.wait("objects go with their peers", gone)


def codes(bed: Bed, name: str, node: str) -> set[str]:
    """The codes in an answer about a node's session with a peer."""
    tree = json.loads(bed.api.clarion("explain", "peer", name, "--node", node, "-o", "json"))

    def walk(item: dict[str, Any]) -> Iterator[str]:
        if item.get("code"):
            yield item["code"]
        for child in item.get("children", ()):
            yield from walk(child)

    return set(walk(tree.get("answer", tree)))


def test_bfd_is_told_beside_the_session(bed: Bed) -> None:
    """FRR speaks BFD with who wants to; BIRD does not, so the path is down and the session up."""
    profile = metallb("BFDProfile", "fast", transmitInterval=200, receiveInterval=200)
    both = [peer(name, bfdProfile="fast") for name in ("frr", "bird")]
    with bed.applied(profile, *both):

        def told() -> bool:
            now = rows(bed)
            return all(
                (now[node, "frr"]["BFD"], now[node, "frr"]["state"]) == ("up", "Established")
                for node in BACK_ENDS
            )

        bed.wait("BFD is up", told, seen=lambda: rows(bed))
        bed.wait("BFD is down", lambda: rows(bed)[NATIVE, "bird"]["BFD"] == "down")
