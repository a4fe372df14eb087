"""Configuration and services that change under running programs, judged from outside.

Judges: FRR's own counts of UPDATEs and sessions, BIRD, arping, ndisc6, curl and kubectl.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from clarion.lab import observe
from clarion.lab.nodes import Node
from clarion.lab.process import wait_until
from clarion.lab.topology import NODES

from .programs_bed import ALL, ROUTERS, SYSTEM, Bed, metallb, running, service

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with running("c") as made:
        yield made


# --- configuration and services ---


def test_a_pool_in_use_is_shrunk_and_deleted(bed: Bed) -> None:
    pool = metallb("IPAddressPool", "small", addresses=["203.0.113.8/30"], autoAssign=False)
    ad = metallb("BGPAdvertisement", "small", ipAddressPools=["small"])
    chosen = {"metallb.io/address-pool": "small"}
    single: dict[str, Any] = {"ipFamilyPolicy": "SingleStack"}
    first, second = (service(f"small-{n}", notes=chosen, **single) for n in (1, 2))
    with bed.applied(pool, ad, first, second):
        for name in ("small-1", "small-2"):
            wait_until(partial(bed.ingress, name), 20, f"{name} has an address")
        (one,), (two,) = sorted((bed.ingress("small-1"), bed.ingress("small-2")))
        loser = "small-1" if bed.ingress("small-1") == [two] else "small-2"
        for address in (one, two):
            bed.wait_from(bed.lab.frr, address, ALL)
        bed.patch("ipaddresspool/small", {"spec": {"addresses": [f"{one}-{one}"]}})
        wait_until(lambda: bed.ingress(loser) == [], 20, f"{loser} loses {two}")
        bed.wait_from(bed.lab.frr, two, set())
        bed.wait_from(bed.lab.frr, one, ALL)
        assert any(reason == "ClearAssignment" for reason, _ in bed.events(loser))
        bed.patch("ipaddresspool/small", {"spec": {"addresses": [f"{one}-{two}"]}})
        bed.wait_from(bed.lab.frr, two, ALL)
        bed.kubectl("delete", "ipaddresspool", "small", "-n", SYSTEM)
        for address in (one, two):
            bed.wait_from(bed.lab.frr, address, set())
        bed.wait_from(bed.lab.frr, bed.vips("keep")[0], ALL)


def test_a_service_deleted_and_made_anew_is_announced_again(bed: Bed) -> None:
    fixed = {"metallb.io/loadBalancerIPs": "192.0.2.230,2001:db8:1::10a"}
    for _ in range(2):
        with bed.applied(service("again", notes=fixed)):
            assert bed.vips("again") == ("192.0.2.230", "2001:db8:1::10a")
            bed.wait_from(bed.lab.frr, "192.0.2.230", ALL)
            assert bed.owner("192.0.2.230") in ALL
            assert bed.owner("2001:db8:1::10a") in ALL
        bed.wait_from(bed.lab.frr, "192.0.2.230", set())
        wait_until(lambda: not bed.lab.owners("192.0.2.230"), 20, "nobody answers")


def test_two_services_share_an_address_until_the_last_one_goes(bed: Bed) -> None:
    shared = {
        "metallb.io/allow-shared-ip": "key",
        "metallb.io/loadBalancerIPs": "192.0.2.231,2001:db8:1::10b",
    }
    web, other = service("share-1", 80, shared), service("share-2", 81, shared)
    with bed.applied(web):
        with bed.applied(other):
            assert bed.vips("share-1") == bed.vips("share-2")
            bed.wait_from(bed.lab.frr, "192.0.2.231", ALL)
            bed.owner("192.0.2.231")
            for port in (80, 81):
                ask = partial(observe.http_get, bed.lab.client, "192.0.2.231", port)
                wait_until(ask, 20, f"HTTP on port {port}")
        before = bed.sessions()
        bed.owner("192.0.2.231")
        bed.wait_from(bed.lab.frr, "192.0.2.231", ALL)
        assert bed.sessions() == before
    bed.wait_from(bed.lab.frr, "192.0.2.231", set())


def test_external_traffic_policy_local_follows_the_endpoints(bed: Bed) -> None:
    local = service(
        "local",
        externalTrafficPolicy="Local",
        selector={"app": "web", "kubernetes.io/hostname": "node-b"},
    )
    node = bed.lab.nodes["node-b"]
    with bed.applied(local):
        address = bed.vips("local")[0]
        bed.wait_from(bed.lab.frr, address, {"node-b"})
        bed.wait_owner(address, "node-b")
        assert node.backend is not None
        node.backend.kill()
        bed.wait_from(bed.lab.frr, address, set())
        wait_until(lambda: not bed.lab.owners(address), 20, "nobody answers without endpoints")
        node.start_backend()
        bed.wait_from(bed.lab.frr, address, {"node-b"})
        bed.wait_owner(address, "node-b")


def test_labels_of_nodes_move_announcements(bed: Bed) -> None:
    rack = [{"matchLabels": {"rack": "r1"}}]
    pool = metallb("IPAddressPool", "rack", addresses=["192.0.2.250/31"], autoAssign=False)
    ads = [
        metallb(kind, "rack", ipAddressPools=["rack"], nodeSelectors=rack)
        for kind in ("L2Advertisement", "BGPAdvertisement")
    ]
    one = service("rack", notes={"metallb.io/address-pool": "rack"}, ipFamilyPolicy="SingleStack")
    bed.kubectl("label", "node", "node-a", "rack=r1")
    try:
        with bed.applied(pool, *ads, one):
            (address,) = wait_until(lambda: bed.ingress("rack"), 20, "an address")
            bed.wait_from(bed.lab.frr, address, {"node-a"})
            bed.wait_owner(address, "node-a")
            bed.kubectl("label", "node", "node-c", "rack=r1")
            bed.wait_from(bed.lab.frr, address, {"node-a", "node-c"})
            bed.kubectl("label", "node", "node-a", "rack-")
            bed.wait_from(bed.lab.frr, address, {"node-c"})
            bed.wait_owner(address, "node-c")
    finally:
        for name in ("node-a", "node-c"):
            bed.kubectl("label", "node", name, "rack-")


def test_a_new_password_resets_the_one_session_only(bed: Bed) -> None:
    lab, ipv4 = bed.lab, [node.ipv4 for node in bed.lab.nodes.values()]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "frr", "namespace": SYSTEM},
    }

    def others() -> dict[str, Any]:
        found = {a: ups for a, (ups, _) in bed.sessions().items() if a not in ipv4}
        return {**found, "bird": lab.bird.birdc("show protocols").count("Established")}

    def both(password: str) -> None:
        words = [f"neighbor {a} password {password}" for a in ipv4]
        lab.frr.vtysh("configure terminal", "router bgp 64512", *words)
        bed.apply({**secret, "stringData": {"username": "-", "password": password}})

    before = others()
    try:
        counts = bed.sessions()
        both("first")
        bed.patch("bgppeer/frr", {"spec": {"passwordSecret": {"name": "frr", "namespace": SYSTEM}}})
        counts = up_again(bed, ipv4, counts)
        both("second")
        counts = up_again(bed, ipv4, counts)
        bed.wait_from(lab.frr, bed.vips("keep")[0], ALL)
        assert others() == before
        for node in lab.nodes.values():
            shown = bed.probe(node, "debug/snapshot")
            assert "passwordSecret" in shown
            assert "second" not in shown
            assert "c2Vjb25k" not in shown
    finally:
        lab.frr.vtysh(
            "configure terminal", "router bgp 64512", *(f"no neighbor {a} password" for a in ipv4)
        )
        bed.patch("bgppeer/frr", {"spec": {"passwordSecret": None}})
    up_again(bed, ipv4, counts)


def test_a_peer_that_is_waited_for_opens_the_session(bed: Bed) -> None:
    lab, ipv4 = bed.lab, [node.ipv4 for node in bed.lab.nodes.values()]
    mark = ("annotate", "bgppeer/frr", "-n", SYSTEM)

    def accepted() -> bool:
        """The router dialled: the node's end of the connection is the port of BGP."""
        return all(
            lab.routers()["frr"].config.router_id
            in node.namespace.run(["ss", "-Htn", "state", "established", "sport = :179"]).stdout
            for node in lab.nodes.values()
        )

    def dial(word: str) -> None:
        words = [f"{word}neighbor {a} passive" for a in ipv4]
        lab.frr.vtysh("configure terminal", "router bgp 64512", *words)

    assert not accepted()
    try:
        counts = bed.sessions()
        bed.kubectl(*mark, "clarion.metallb.io/passive=true")
        dial("no ")
        for address in ipv4:
            lab.frr.vtysh(f"clear bgp {address}")
        counts = up_again(bed, ipv4, counts)
        wait_until(accepted, 20, "the nodes accepted the sessions on port 179")
        bed.wait_from(lab.frr, bed.vips("keep")[0], ALL)
    finally:
        dial("")
        bed.kubectl(*mark, "clarion.metallb.io/passive-")
        for address in ipv4:
            lab.frr.vtysh(f"clear bgp {address}")
    up_again(bed, ipv4, counts)


def up_again(bed: Bed, addresses: list[str], before: dict[str, tuple[int, int]]) -> Any:
    """Wait until FRR has established each of these sessions once more; its counts then."""

    def again() -> Any:
        now = bed.sessions()
        up = all(bed.lab.frr.neighbors()[address].established for address in addresses)
        return now if up and all(now[a][0] > before[a][0] for a in addresses) else None

    return wait_until(again, 30, f"sessions with {addresses} are established again")


# --- what people see ---


def test_events_and_status_objects_are_those_that_users_know(bed: Bed) -> None:
    with bed.applied(service("seen")):
        address = bed.vips("seen")[0]
        owner = bed.owner(address)
        wanted = {("nodeAssigned", f'announcing from node "{owner}" with protocol "layer2"')} | {
            ("nodeAssigned", f'announcing from node "{name}" with protocol "bgp"') for name in ALL
        }
        wait_until(lambda: bed.events("seen") >= wanted, 20, "events of the speakers")
        assert {reason for reason, _ in bed.events("seen")} == {"IPAllocated", "nodeAssigned"}
        labels = "metallb.io/service-name=seen,metallb.io/service-namespace=default"

        def statuses(kind: str) -> list[Any]:
            found = bed.lab.api.items(kind, "-n", SYSTEM, "-l", labels)
            return [each["status"] for each in found if each.get("status")]

        l2 = wait_until(lambda: statuses("servicel2statuses"), 20, "a ServiceL2Status")
        assert l2 == [{"node": owner, "serviceName": "seen", "serviceNamespace": "default"}]
        wait_until(lambda: len(statuses("servicebgpstatuses")) == 3, 20, "three BGP statuses")
        for status in statuses("servicebgpstatuses"):
            assert status["node"] in ALL
            assert status["peers"] == sorted(ROUTERS)
        bed.kubectl("delete", "bgppeer", "frr-v6", "-n", SYSTEM)
        wait_until(
            lambda: all(s["peers"] == ["bird", "frr"] for s in statuses("servicebgpstatuses")),
            20,
            "the peer that is gone is not listed",
        )
        asn, peer = ROUTERS["frr-v6"]
        bed.apply(
            metallb("BGPPeer", "frr-v6", "v1beta2", myASN=64500, peerASN=asn, peerAddress=peer)
        )
        bed.wait_from(bed.lab.frr, bed.vips("seen")[1], ALL)
    wait_until(
        lambda: not statuses("servicel2statuses") and not statuses("servicebgpstatuses"),
        20,
        "statuses go with the service",
    )


def test_configuration_states_tell_what_is_wrong(bed: Bed) -> None:
    names = {"controller", *(f"speaker-{name}" for name in NODES)}

    def results() -> dict[str, tuple[str, str]]:
        found = bed.lab.api.items("configurationstates", "-n", SYSTEM)
        return {
            each["metadata"]["name"]: (
                each["status"]["result"],
                each["status"]["conditions"][0]["status"],
            )
            for each in found
        }

    wait_until(lambda: results() == dict.fromkeys(names, ("Valid", "True")), 20, "all are valid")
    secret = {"passwordSecret": {"name": "not-there", "namespace": SYSTEM}}
    bed.patch("bgppeer/bird", {"spec": secret})
    bad = dict.fromkeys((f"speaker-{name}" for name in NODES), ("Invalid", "False"))
    wait_until(lambda: results().items() >= bad.items(), 20, "the speakers miss the Secret")
    summary = bed.lab.api.get("configurationstate", "speaker-node-a", "-n", SYSTEM)["status"]
    assert "bird" in summary["errorSummary"]
    assert "not-there" in summary["errorSummary"]
    bed.patch("bgppeer/bird", {"spec": {"passwordSecret": None}})
    wait_until(lambda: results() == dict.fromkeys(names, ("Valid", "True")), 20, "valid again")
    bed.wait_from(bed.lab.bird, bed.vips("keep")[0], ALL)


def test_the_programs_own_pages(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    node = bed.lab.nodes[bed.owner(address)]
    for path in ("healthz", "readyz"):
        assert bed.probe(node, path) == "ok"
        assert bed.probe(Node(bed.lab.api.namespace, [], "", ""), path, 7473) == "ok"
    speaker = bed.probe(node, "metrics")
    announced = (
        f'metallb_speaker_announced{{ip="{address}",node="{node.name}",protocol="layer2",'
        'service="default/keep"} 1.0'
    )
    for line in (
        announced,
        'metallb_bgp_session_up{peer="192.0.2.1:179",vrf="default"} 1.0',
        'metallb_bgp_announced_prefixes_total{peer="192.0.2.1:179",vrf="default"} 1.0',
        "metallb_k8s_client_config_loaded_bool 1.0",
        "metallb_k8s_client_config_stale_bool 0.0",
    ):
        assert line in speaker, speaker
    counts = dict(re.findall(rf'(metallb_layer2_\w+){{ip="{address}"}} (\S+)', speaker))
    assert set(counts) == {
        "metallb_layer2_requests_received",
        "metallb_layer2_responses_sent",
        "metallb_layer2_gratuitous_sent",
    }
    controller = bed.probe(Node(bed.lab.api.namespace, [], "", ""), "metrics", 7473)
    assert 'metallb_allocator_addresses_in_use_total{pool="base"} 2.0' in controller
    assert 'metallb_allocator_ipv4_addresses_total{pool="base"} 16.0' in controller
    shown = json.loads(bed.probe(node, "debug/snapshot"))
    assert {peer["state"] for peer in shown["sessions"].values()} == {"Established"}
    assert address in shown["answers"]
