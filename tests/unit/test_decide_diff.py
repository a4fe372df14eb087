"""The table of what a changed field does to a session equals that of the sessions themselves."""

from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.daemons.translate import peer_config
from clarion.decide.diff import diff
from clarion.decide.effects import DEFAULTS, PEER_EFFECTS, STRENGTH, field_changes, strongest
from clarion.decide.plan import Plan
from clarion.decide.planner import plan
from clarion.decide.reasons import REASONS
from clarion.decide.settings import Peer
from clarion.decide.snapshot import Snapshot
from clarion.model.meta import LabelSelector
from clarion.proto.bgp.config import PeerConfig, change_effect
from clarion.testing import builders as b

PEER = Peer(name="r", my_asn=64500, peer_asn=64501, address=parse_address("198.51.100.1"))
OTHER: dict[str, Any] = {
    "my_asn": 1,
    "peer_asn": 2,
    "dynamic_asn": "external",
    "local_asn": 3,
    "address": parse_address("198.51.100.2"),
    "interface": "eth1",
    "source_address": parse_address("198.51.100.3"),
    "port": 1179,
    "passive": True,
    "hold_time": 30.0,
    "keepalive_time": 7.0,
    "connect_time": 9.0,
    "router_id": parse_address("198.51.100.4"),
    "node_selectors": (LabelSelector(match_labels={"a": "b"}),),
    "password_secret": "bgp",
    "password": "x",
    "bfd_profile": "fast",
    "graceful_restart": True,
    "ebgp_multihop": True,
    "ttl_security": 1,
    "max_prefixes": 10,
    "vrf": "red",
    "families": frozenset((4,)),
    "lacking": ("vrf",),
}
# BFD watches beside the BGP session, which does not notice another profile.
BESIDE = {"bfd_profile"}


def test_every_field_of_a_peer_has_an_effect() -> None:
    assert set(PEER_EFFECTS) == set(Peer.__struct_fields__) - {"name"}
    assert set(OTHER) == set(PEER_EFFECTS)


@pytest.mark.parametrize("field", sorted(set(PEER_EFFECTS) - BESIDE))
def test_the_effect_of_a_field_is_that_of_the_session(field: str) -> None:
    other = msgspec.structs.replace(PEER, **{field: OTHER[field]})
    told = change_effect(peer_config(PEER), peer_config(other))
    assert PEER_EFFECTS[field] == STRENGTH[told]
    shown = field_changes(PEER, other)
    if field in ("node_selectors", "lacking"):
        assert shown == ()
    else:
        assert strongest(shown) == STRENGTH[told]
        assert [item.field for item in shown if item.field != "keepalive_time"] in (
            [field],
            [] if field == "keepalive_time" else [field],
        )


def test_the_defaults_are_those_of_the_session() -> None:
    config = PeerConfig(
        name="r", local_asn=1, peer_asn=2, peer_address=parse_address("198.51.100.1")
    )
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


def test_a_blanked_password_is_not_compared() -> None:
    for blank in ("***", "(blanked)"):
        one = msgspec.structs.replace(PEER, password=blank)
        assert field_changes(one, msgspec.structs.replace(PEER, password="x")) == ()
        assert [item.after for item in field_changes(one, PEER)] == ["not set"]


def test_no_password_is_told() -> None:
    one = msgspec.structs.replace(PEER, password="hush1")
    assert "hush" not in repr(field_changes(one, msgspec.structs.replace(PEER, password="hush2")))


WORLD: list[Any] = [
    b.pool("p", "192.0.2.0/28"),
    b.bgp_advertisement("b1", length=30),
    b.bgp_advertisement("b2", length=30, nodes=["zone=east"]),
    b.peer("r"),
    b.node("n1", "zone=east"),
    b.service("web", labels="tier=web"),
    b.endpoints("web", "n1"),
]


def made(*edits: Any, gone: str = "") -> Plan:
    objects = {(type(obj), obj.name): obj for obj in (*WORLD, *edits)}
    return plan(Snapshot.from_objects([o for o in objects.values() if o.name != gone]))


FINE = b.bgp_advertisement("b2", length=31, nodes=["zone=east"])
TAGGED = b.bgp_advertisement("b2", length=30, nodes=["zone=east"], communities=["no-export"])

# Code of a reason -> the two plans between which it is given.
GIVEN: list[tuple[str, Plan, Plan]] = [
    ("change-new", made(gone="r"), made()),
    ("change-gone", made(), made(gone="r")),
    ("change-before", made(b.node("n1", excluded=True)), made()),
    ("change-service", made(), made(b.service("web", ips="192.0.2.9"))),
    ("change-advertisement", made(), made(b.bgp_advertisement("b1", length=30, local_pref=9))),
    ("change-cover", made(FINE), made(FINE, b.node("n1"))),
    ("change-sources", made(TAGGED), made(TAGGED, b.node("n1"))),
    ("change-peer", made(), made(b.peer("r", my_asn=7))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "old", "new"), GIVEN, ids=[row[0] for row in GIVEN])
def test_reason(code: str, old: Plan, new: Plan) -> None:
    found = diff(old, new)
    reasons = [why for item in found.changes() for why in getattr(item, "reasons", ())]
    assert code in {why.code for why in reasons}
    assert all("{" not in why.text for why in reasons)


def test_every_reason_of_a_change_is_given() -> None:
    assert {row[0] for row in GIVEN} == {code for code in REASONS if code.startswith("change-")}
