"""FRR's configuration: golden files that vtysh reads, and the steps from one to another.

`UPDATE_GOLDEN=1` rewrites the files.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clarion.base.addr import Prefix, parse_address, parse_prefix
from clarion.daemons.frr import frr_config, unfit
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import GRACEFUL_SHUTDOWN
from clarion.decide.settings import Peer
from clarion.model.metallb import BFDProfileSpec
from clarion.proto.frr.config import Tree, bfd_tree, bgp_tree, text, zebra_tree
from clarion.proto.frr.delta import Step, about, masked, parse, steps

GOLDEN = Path(__file__).parents[1] / "golden" / "frr"
NO_EXPORT = 0xFFFFFF01
V4, V6 = parse_prefix("203.0.113.1/32"), parse_prefix("2001:db8:5::1/128")
PLAIN = {V4: AdvertisedRoute(V4), V6: AdvertisedRoute(V6)}
RICH = {
    V4: AdvertisedRoute(V4, 150, (64500 << 16 | 7, NO_EXPORT), ((64500, 1, 2),)),
    V6: AdvertisedRoute(V6),
}


def peer(name: str = "frr", address: str = "192.0.2.1", **more: Any) -> Peer:
    target = parse_address(address)
    fields = {"my_asn": 64500, "peer_asn": 64512, "families": frozenset((target.version,)), **more}
    return Peer(name=name, address=target, **fields)


EVERYTHING = peer(
    local_asn=64999,
    port=1790,
    source_address=parse_address("192.0.2.11"),
    hold_time=9.0,
    keepalive_time=3.0,
    connect_time=5.0,
    router_id=parse_address("192.0.2.11"),
    password="s3cret",
    bfd_profile="fast",
    graceful_restart=True,
    ebgp_multihop=True,
    max_prefixes=1000,
    families=frozenset((4, 6)),
)
UNNUMBERED = Peer(name="eth", my_asn=64500, dynamic_asn="external", interface="eth0")
EXTENDED = (0x0002_FC00_0000_0064, 0x0102_C000_0201_0007, 0x0203_FA56_EA00_0001)
SHED = {
    V4: AdvertisedRoute(V4, 0, (GRACEFUL_SHUTDOWN,), (), EXTENDED, 3),
    V6: AdvertisedRoute(V6, 0, (), (), (), 40_000),
}
PROFILES = {
    "fast": BFDProfileSpec(
        receive_interval=100,
        transmit_interval=150,
        detect_multiplier=5,
        echo_interval=60,
        echo_mode=True,
        passive_mode=True,
        minimum_ttl=200,
    ),
    "slow": BFDProfileSpec(),
}
CASES: dict[str, tuple[list[Peer], dict[str, dict[Prefix, AdvertisedRoute]]]] = {
    "nothing": ([], {}),
    "plain": (
        [peer(), peer("six", "2001:db8:1::1")],
        {"frr": PLAIN, "six": PLAIN},
    ),
    "attributes": (
        [peer(), peer("bird", "192.0.2.2", peer_asn=64500)],
        {"frr": PLAIN, "bird": RICH},
    ),
    "everything": ([EVERYTHING, UNNUMBERED], {"frr": RICH, "eth": RICH}),
    "weights": (
        [peer(ttl_security=1, max_prefixes=10), peer("bird", "192.0.2.2", peer_asn=64500)],
        {"frr": SHED, "bird": SHED},
    ),
    "vrf": (
        [peer(), peer("red", vrf="red", my_asn=64501, dynamic_asn="internal", peer_asn=0)],
        {"frr": PLAIN, "red": RICH},
    ),
}


def bgp(name: str) -> Tree:
    peers, routes = CASES[name]
    return bgp_tree(frr_config({p.name: p for p in peers}, PROFILES, routes))


@pytest.mark.parametrize("name", CASES)
def test_the_configuration_is_as_before_and_vtysh_reads_it(name: str) -> None:
    profiles = bfd_tree(frr_config({}, PROFILES, {}))
    made = text(zebra_tree()) + text(profiles) + text(bgp(name))
    path = GOLDEN / f"{name}.conf"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == made
    if shutil.which("vtysh") is None:
        pytest.skip("vtysh is not installed: nobody judges the syntax")
    done = subprocess.run(
        ["vtysh", "-C", "-f", str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", CASES)
def test_what_is_shown_is_what_was_told(name: str) -> None:
    assert parse(text(bgp(name))) == bgp(name)
    assert steps(bgp(name), bgp(name)) == []


def test_frrs_own_words_are_understood() -> None:
    shown = """
! a comment
hostname somebody
ip prefix-list old seq 5 permit 203.0.113.0/24
router bgp 64500
 neighbor 192.0.2.1 ebgp-multihop
 !
 address-family ipv4 unicast
  network 203.0.113.1/32
 exit-address-family
exit
route-map x permit 1
 set community 64500:7 no-export additive
exit
"""
    assert parse(shown) == {
        "ip prefix-list old permit 203.0.113.0/24": {},
        "router bgp 64500": {
            "neighbor 192.0.2.1 ebgp-multihop 255": {},
            "address-family ipv4 unicast": {"network 203.0.113.1/32": {}},
        },
        "route-map x permit 1": {"set community 64500:7 65535:65281 additive": {}},
    }


def lines(old: Tree, new: Tree) -> list[str]:
    return [step.line for step in steps(old, new)]


def with_routes(routes: dict[Prefix, AdvertisedRoute], **more: Any) -> Tree:
    return bgp_tree(frr_config({"frr": peer(**more)}, {}, {"frr": routes}))


def test_one_more_prefix_is_one_line() -> None:
    more = parse_prefix("203.0.113.2/32")
    old, new = (
        with_routes({V4: PLAIN[V4]}),
        with_routes({V4: PLAIN[V4], more: AdvertisedRoute(more)}),
    )
    (line,) = lines(old, new)
    assert line.startswith("network 203.0.113.2/32 route-map clarion-tag-")
    assert [text.partition(" route-map")[0] for text in lines(new, old)] == [
        "no network 203.0.113.2/32"
    ]


def test_a_policy_is_there_before_its_prefix_and_goes_after_it() -> None:
    there = lines(with_routes({}), with_routes(RICH))
    assert there.index("set local-preference 150") < there.index(
        next(line for line in there if line.startswith("network "))
    )
    gone = lines(with_routes(RICH), with_routes({}))
    assert gone.index(next(line for line in gone if line.startswith("no network"))) < gone.index(
        "no route-map 192.0.2.1-out permit 1"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"password": "new"}, ["neighbor 192.0.2.1 password new"]),
        ({"connect_time": 7.0}, ["neighbor 192.0.2.1 timers connect 7"]),
        ({"ttl_security": 2}, ["neighbor 192.0.2.1 ttl-security hops 2"]),
        ({"max_prefixes": 9}, ["neighbor 192.0.2.1 maximum-prefix 9 force"]),
        ({"bfd_profile": "x"}, ["neighbor 192.0.2.1 bfd", "neighbor 192.0.2.1 bfd profile x"]),
    ],
)
def test_a_changed_field_is_its_line_and_back(change: dict[str, Any], expected: list[str]) -> None:
    old, new = with_routes(PLAIN), with_routes(PLAIN, **change)
    assert lines(old, new) == expected
    assert lines(new, old) == [f"no {line}" for line in expected]


@pytest.mark.parametrize("change", [{"peer_asn": 64513}, {"graceful_restart": True}])
def test_what_needs_another_session_makes_the_neighbour_anew(change: dict[str, Any]) -> None:
    made = lines(with_routes(PLAIN), with_routes(PLAIN, **change))
    assert made[0] == "no neighbor 192.0.2.1"
    assert made[1].startswith("neighbor 192.0.2.1 remote-as ")
    assert "neighbor 192.0.2.1 activate" in made


def test_no_word_of_a_password_is_shown() -> None:
    found = steps({}, with_routes(PLAIN, password="s3cret"))
    assert any("password" in step.line for step in found)
    assert "s3cret" not in repr(found)
    echoed = "% [BGP] Unknown command: neighbor 192.0.2.1 password s3cret"
    assert masked(echoed) == "% [BGP] Unknown command: neighbor 192.0.2.1 password ***"
    config = frr_config({"frr": peer(password="s3cret")}, {}, {})
    assert "s3cret" not in repr(config)


def test_a_refusal_is_about_the_peer_of_its_line() -> None:
    names = ("192.0.2.1", "192.0.2.11", "192.0.2.1-red")
    default, red = "router bgp 64500", "router bgp 64501 vrf red"
    assert about(Step((default,), "neighbor 192.0.2.11 timers 1 3"), names) == "192.0.2.11"
    assert about(Step((red,), "neighbor 192.0.2.1 timers 1 3"), names) == "192.0.2.1-red"
    assert about(Step((), "no route-map 192.0.2.1-red-out permit 1"), names) == "192.0.2.1-red"
    assert about(Step((default,), "network 203.0.113.1/32"), names) == ""


def test_what_frr_cannot_write_down_is_said_and_left_out() -> None:
    assert unfit(peer(password="two words")) == "password"
    assert unfit(EVERYTHING) == unfit(UNNUMBERED) == ""
