"""What breaks between the native speaker and its routers, and how it comes back.

Judged by FRR, BIRD, GoBGP and OpenBGPD, all at once.
"""

import itertools
from functools import partial

import pytest

from clarion.lab.process import wait_until
from clarion.lab.routers import Router
from clarion.proto.bgp.config import State

from .bgp_bed import (
    ALL,
    KINDS,
    NAMES,
    US4,
    US6,
    Routers,
    Speaker,
    many,
    neighbor,
    peer,
    service,
    wait_received,
    wait_service,
)
from .conftest import Segment

pytestmark = pytest.mark.lab

HOLD_EXPIRED = "the peer sent nothing in the hold time of 3 s"


def test_a_router_that_stands_still_is_noticed_within_the_hold_time(
    speaker: Speaker, routers: Routers
) -> None:
    """Its kernel keeps the connection up; only the hold timer tells (RFC 4271 §6.5)."""
    running = routers(neighbor(hold_time=3, keepalive=1))
    speaker.peers(*(peer(kind, hold_time=3.0) for kind in KINDS))
    speaker.routes(KINDS, service())
    speaker.wait_established()
    assert {each.hold_time for each in speaker.status.values()} == {3.0}
    for router in running.values():
        wait_service(router)
        assert router.neighbors()[US4].hold_time == 3
        router.pause()
    try:
        speaker.wait_reason(HOLD_EXPIRED, *KINDS)
    finally:
        for router in running.values():
            router.resume()
    speaker.wait_established()
    for router in running.values():
        wait_service(router)


def test_a_pulled_cable_is_noticed_by_both_ends_and_all_comes_back(
    speaker: Speaker, routers: Routers, segment: Segment
) -> None:
    """The carrier stays: nothing but silence says that the cable is out."""
    fast = {"hold_time": 3, "keepalive": 1}
    running = routers(neighbor(4, **fast), neighbor(6, **fast))
    speaker.peers(*(peer(kind, version, hold_time=3.0) for kind, version in ALL))
    speaker.routes(NAMES, service())
    speaker.wait_established()
    for router in running.values():
        wait_service(router)
    port = segment.switch.port("speaker")
    port.unplug()
    try:
        speaker.wait_reason(HOLD_EXPIRED, *NAMES)
        for router in running.values():
            router.wait_routes(4, set())
            router.wait_routes(6, set())
    finally:
        port.plug()
    for kind, words in (("frr", "Hold Timer Expired"), ("bird", "Hold timer expired")):
        said = {state.last_error for state in running[kind].neighbors().values()}
        assert all(words in each for each in said), said
    speaker.wait_established()
    for router in running.values():
        router.wait_established(US4, US6)
        wait_service(router)


def test_a_restarted_router_gets_everything_again(speaker: Speaker, routers: Routers) -> None:
    running = routers(neighbor(4), neighbor(6))
    speaker.peers(*(peer(kind, version) for kind, version in ALL))
    speaker.routes(NAMES, service())
    speaker.wait_established()
    for router in running.values():
        router.kill()
    speaker.wait(
        "all sessions lost",
        lambda status: all(each.state < State.OPEN_SENT for each in status.values()),
    )
    for router in running.values():
        router.start()
    speaker.wait_established()
    for router in running.values():
        wait_service(router)
    assert all(each.established_count == 2 for each in speaker.status.values())


def test_routers_that_stop_reading_delay_nobody_and_cost_bounded_memory(
    speaker: Speaker, routers: Routers
) -> None:
    """Two of them stand still while the others get change after change of everything."""
    still, lively = ("gobgp", "openbgpd"), ("frr", "bird")
    running = routers(neighbor(hold_time=60, keepalive=20))
    speaker.peers(*(peer(kind, hold_time=60.0) for kind in KINDS))
    speaker.routes(KINDS, many(1_000))
    for router in running.values():
        wait_received(router, 1_000)
    for kind in still:
        running[kind].pause()

    def wait_change(number: int, *kinds: str) -> None:
        for kind, prefix in itertools.product(kinds, ("198.18.0.0/32", "198.18.3.231/32")):
            there = partial(has_community, running[kind], prefix, f"0:{number}")
            wait_until(there, 30, f"{kind} has change {number} of {prefix}")

    try:
        # Until buffers are full, and what is kept for peers to share: 1 MB, 5 kB a change.
        speaker.routes(KINDS, many(1_000), range(250))
        wait_change(249, *lively)
        sent, memory = speaker.status, speaker.memory()
        speaker.routes(KINDS, many(1_000), range(250, 400))
        wait_change(399, *lively)
        status = speaker.status
        for kind in still:
            assert status[kind].sent.updates == sent[kind].sent.updates
            assert (status[kind].prefixes_pending, status[kind].state) == (1_000, State.ESTABLISHED)
        # 150 changes of 1,000 prefixes are 1.5 MB as bytes for two peers.
        assert speaker.memory() - memory < 1_000
    finally:
        for kind in still:
            running[kind].resume()
    wait_change(399, *still)
    assert {each.established_count for each in speaker.status.values()} == {1}


def has_community(router: Router, prefix: str, community: str) -> bool:
    return router.learned(4)[prefix][0].communities == (community,)
