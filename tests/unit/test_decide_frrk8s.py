"""What frr-k8s is asked for, compared with golden files, and what it tells; UPDATE_GOLDEN=1 writes.

tests/cluster/test_frrk8s.py shows that the API server takes such objects.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from clarion.base.addr import Prefix, parse_prefix
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.config import build_config
from clarion.decide.frrk8s import build_spec, configuration_name, session_states
from clarion.decide.settings import Config, Peer
from clarion.decide.snapshot import Options, Snapshot
from clarion.model import codec
from clarion.model.frrk8s import BGPSessionStateStatus, FRRConfiguration
from clarion.model.meta import KubeObject, ObjectMeta
from clarion.model.metallb import SecretReference
from clarion.testing import builders as b

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "frrk8s"
SYSTEM: Final = "metallb-system"
OPTIONS: Final = Options(backend="frr-k8s", namespace=SYSTEM)


def checked(*objects: KubeObject) -> tuple[Config, list[str]]:
    """The configuration and the codes of its problems."""
    result = build_config(Snapshot.from_objects(objects, OPTIONS))
    return result.config, [problem.code for problem in result.problems]


def routes(*items: AdvertisedRoute) -> dict[Prefix, AdvertisedRoute]:
    return {item.prefix: item for item in items}


def route(prefix: str, pref: int = 0, *communities: Any) -> AdvertisedRoute:
    plain = tuple(item for item in communities if isinstance(item, int))
    large = tuple(item for item in communities if not isinstance(item, int))
    return AdvertisedRoute(parse_prefix(prefix), pref, plain, large)


MANY: Final = routes(
    route("203.0.113.9/32", 200, 64500 << 16 | 7),
    route("203.0.113.10/32", 100, 64500 << 16 | 7, (64500, 1, 2)),
    route("198.51.100.0/24", 200),
)
SECRET: Final = b.secret("bgp", password="lab-secret", kind="kubernetes.io/basic-auth")
PEERS: Final[dict[str, Any]] = {
    "plain": {"address": "192.0.2.1"},
    "all": {
        "address": "192.0.2.2",
        "source_address": "192.0.2.10",
        "local_asn": 64999,
        "peer_port": 1179,
        "hold_time": "1m30s",
        "connect_time": "5s",
        "password": "in-clear",
        "bfd_profile": "quick",
        "enable_graceful_restart": True,
        "ebgp_multi_hop": True,
        "dual_stack_address_family": True,
    },
    "internal": {"address": "2001:db8::2", "peer_asn": 64500, "local_asn": 64999},
    "red": {"address": "192.0.2.3", "vrf": "red", "my_asn": 64501},
    "unnumbered": {"interface": "eth1", "address": "", "peer_asn": 0, "dynamic_asn": "external"},
    "secret": {"address": "192.0.2.4", "password_secret": SecretReference(name="bgp")},
}
TOLD: Final = {
    "plain": MANY,
    "all": MANY | routes(route("2001:db8:5::1/128")),
    "red": routes(route("203.0.113.9/32")),
    "internal": routes(route("2001:db8:5::1/128", 300)),
}
PROFILES: Final = (
    b.bfd_profile("quick", receive_interval=100, transmit_interval=100, passive_mode=True),
    b.bfd_profile("default"),
)


def named(*names: str) -> dict[str, Peer]:
    peers = [b.peer(name, **{"my_asn": 64500, "peer_asn": 64512} | PEERS[name]) for name in names]
    config, _ = checked(*peers, *PROFILES, SECRET)
    assert set(config.peers) == set(names)
    return config.peers


def configuration(names: Iterable[str], secrets: str, profiles: bool) -> FRRConfiguration:
    found = {item.name: item.spec for item in PROFILES} if profiles else {}
    return FRRConfiguration(
        metadata=ObjectMeta(name=configuration_name("node-a"), namespace="frr-k8s-system"),
        spec=build_spec("host-a", named(*names), TOLD, found, secrets),
    )


@pytest.mark.parametrize(
    ("case", "names", "secrets", "profiles"),
    [
        pytest.param("one", ["plain"], "", False, id="one"),
        pytest.param("all", list(PEERS), SYSTEM, True, id="all"),
        pytest.param("elsewhere", ["secret"], "", False, id="elsewhere"),
    ],
)
def test_the_object_is_as_in_the_golden_file(
    case: str, names: list[str], secrets: str, profiles: bool
) -> None:
    made = configuration(names, secrets, profiles)
    text = codec.dump_yaml([codec.to_builtins(made)])
    path = GOLDEN / f"{case}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), "run with UPDATE_GOLDEN=1"


def test_what_the_api_server_fills_in_makes_no_difference() -> None:
    made = configuration(list(PEERS), SYSTEM, profiles=True)
    stored = codec.to_builtins(made)
    for router in stored["spec"]["bgp"]["routers"]:
        for neighbor in router["neighbors"]:
            neighbor.setdefault("disableMP", False)
            neighbor.setdefault("dualStackAddressFamily", False)
            neighbor.setdefault("toAdvertise", {}).setdefault("allowed", {})["mode"] = "filtered"
    assert codec.from_builtins(stored, FRRConfiguration).spec == made.spec


@pytest.mark.parametrize(
    ("where", "foreign"),
    [
        ((), {"raw": {"rawConfig": "router bgp 1"}}),
        (("bgp", "routers", 0), {"imports": [{"vrf": "red"}]}),
        (("bgp", "routers", 0, "neighbors", 0), {"toReceive": {"allowed": {"mode": "all"}}}),
        (("bgp", "routers", 0, "neighbors", 0), {"disableMP": True}),
        (("nodeSelector",), {"matchLabels": {"zone": "east"}}),
    ],
)
def test_what_somebody_adds_makes_a_difference(
    where: tuple[str | int, ...], foreign: dict[str, Any]
) -> None:
    made = configuration(["plain"], "", profiles=False)
    stored = codec.to_builtins(made)
    place = stored["spec"]
    for step in where:
        place = place[step]
    place.update(foreign)
    assert codec.from_builtins(stored, FRRConfiguration).spec != made.spec


def test_a_password_is_in_no_text_for_people() -> None:
    assert "in-clear" not in repr(configuration(["all"], "", profiles=True))


@pytest.mark.parametrize(
    ("fields", "codes", "session"),
    [
        ({"peer_port": 16384}, [], True),
        ({"peer_port": 16385}, ["back-end-lacks"], False),
        ({"local_asn": 64999}, [], True),
        ({"local_asn": 64999, "peer_asn": 64500}, ["local-asn-internal"], True),
    ],
)
def test_what_frr_k8s_would_refuse_for_all_peers_is_a_problem_of_one(
    fields: dict[str, Any], codes: list[str], session: bool
) -> None:
    config, found = checked(b.peer("router", "192.0.2.1", my_asn=64500, **fields))
    assert found == codes
    assert bool(config.peers["router"].lacking) != session
    spec = build_spec("host-a", config.peers, {}, {}, "")
    wanted = 64999 if codes == [] and "local_asn" in fields else 0
    assert spec.bgp.routers[0].neighbors[0].local_asn == wanted


def test_sessions_are_found_by_the_names_that_frr_k8s_gives_them() -> None:
    peers = named("plain", "internal", "red", "unnumbered")
    told = [
        ("192.0.2.1", "", "Established"),
        ("2001-0db8-0000-0000-0000-0000-0000-0002", "", "Active"),
        ("192.0.2.3", "red", "Idle"),
        ("eth1", "", "OpenSent"),
        ("192.0.2.1", "red", "Idle"),  # of somebody else
    ]
    states = session_states(
        peers,
        [BGPSessionStateStatus(peer=peer, vrf=vrf, bgp_status=word) for peer, vrf, word in told],
    )
    assert {name: item.bgp_status for name, item in states.items()} == {
        "internal": "Active",
        "plain": "Established",
        "red": "Idle",
        "unnumbered": "OpenSent",
    }


def test_a_session_of_which_nothing_is_told_has_no_state() -> None:
    assert session_states(named("plain"), [BGPSessionStateStatus(peer="192.0.2.1")]) == {}
