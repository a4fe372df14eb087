"""The use cases under `examples/`, judged by FRR, BIRD, arping, ndisc6 and curl.

One lab for all of them: each test applies a folder with kubectl, looks from outside, deletes the
folder and waits until nothing is announced any more.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from clarion.lab import observe
from clarion.lab.netns import Lab, Namespace, sweep
from clarion.lab.outages import wait_bfd
from clarion.lab.process import wait_until
from clarion.lab.routers import Router, Routes
from clarion.lab.topology import StandardLab

from .conftest import TEST_PREFIX

pytestmark = pytest.mark.lab

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BGP_POOL_4, BGP_POOL_6 = "203.0.113.200/30", "fc00:f853:ccd:e799::/124"
NO_ADVERTISE, BATCH = "65535:65282", "8000:800"
ALL_NODES = {"node-a", "node-b", "node-c"}


@pytest.fixture(scope="module")
def standard() -> Iterator[StandardLab]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}e") as lab:
        made = StandardLab(lab)
        made.up()
        yield made


@contextmanager
def applied(lab: StandardLab, name: str) -> Iterator[None]:
    """Apply a folder; afterwards delete it and see everything withdrawn."""
    folder = str(EXAMPLES / name)
    lab.api.kubectl("apply", "-f", folder)
    try:
        yield
        lab.check()
    finally:
        lab.api.kubectl("delete", "--ignore-not-found", "-f", folder)
    for router in (lab.frr, lab.bird, lab.upstream):
        for version in (4, 6):
            router.wait_routes(version, set())


def vips(lab: StandardLab, *services: str) -> dict[str, tuple[str, str]]:
    """The IPv4 and IPv6 address of each service, once all have both."""

    def given() -> dict[str, tuple[str, str]] | None:
        pairs = {name: ips for name, ips in lab.addresses().items() if len(ips) == 2}
        found = {name: (ips[0], ips[1]) for name, ips in pairs.items()}
        return found if set(services) <= set(found) else None

    return wait_until(given, 20, f"services {services} have two addresses each")


def hosts_of(lab: StandardLab, routes: Routes, prefix: str) -> set[str]:
    return {lab.node_of_next_hop(path.next_hop) for path in routes[prefix]}


def wait_from(lab: StandardLab, router: Router, prefix: str, nodes: set[str]) -> Routes:
    """Wait until a router has a prefix from exactly these nodes."""
    version = 6 if ":" in prefix else 4

    def there() -> Routes | None:
        routes = router.learned(version)
        return routes if prefix in routes and hosts_of(lab, routes, prefix) == nodes else None

    what = f"{router.name}: {prefix} from {sorted(nodes)}"
    return wait_until(there, 20, what, seen=lambda: router.learned(version))


def owner(lab: StandardLab, address: str, interface: str = "eth0") -> str:
    """The one node that answers for an address."""

    def single() -> str | None:
        found = lab.owners(address, interface)
        assert len(found) < 2, f"{address} is answered for by {found}"
        return found[0] if found else None

    return wait_until(single, 20, f"somebody answers for {address} on {interface}")


def served(host: Namespace, address: str) -> str:
    """What curl gets on a host from a service address, waited for."""
    return wait_until(
        partial(observe.http_get, host, address), 20, f"HTTP from {host.name} to {address}"
    )


def communities(routes: Routes, prefix: str) -> set[str]:
    (same,) = {frozenset(path.communities) for path in routes[prefix]}
    return set(same)


def test_basic_bgp(standard: StandardLab) -> None:
    with applied(standard, "01-basic-bgp"):
        addresses = vips(standard, "web-1", "web-2")
        for version, length, index in ((4, 32, 0), (6, 128, 1)):
            singles = {f"{pair[index]}/{length}" for pair in addresses.values()}
            assert len(singles) == 2
            for router in (standard.frr, standard.bird):
                router.wait_routes(version, singles, timeout=25)
                for prefix in singles:
                    routes = wait_from(standard, router, prefix, ALL_NODES)
                    assert communities(routes, prefix) == set()
                    assert all(not path.large_communities for path in routes[prefix])
            internal = standard.bird.learned(version)
            assert {path.local_pref for p in singles for path in internal[p]} == {0}
            standard.upstream.wait_routes(version, singles)
            raw = standard.frr.raw_routes(version)["routes"]
            assert set(raw) == singles
            kernel = standard.frr.kernel_routes(version)
            assert all(len(kernel[prefix]) == 3 for prefix in singles)
        for address in addresses["web-1"]:
            assert served(standard.upstream_host, address).startswith("served by node-")


def advanced_prefixes(addresses: dict[str, tuple[str, str]], index: int) -> set[str]:
    length, aggregate = (32, BGP_POOL_4) if index == 0 else (128, BGP_POOL_6)
    return {f"{pair[index]}/{length}" for pair in addresses.values()} | {aggregate}


def test_advanced_bgp(standard: StandardLab) -> None:
    services = [f"web-{number}" for number in range(1, 5)]
    with applied(standard, "02-advanced-bgp"):
        addresses = vips(standard, *services)
        for version, index, aggregate in ((4, 0, BGP_POOL_4), (6, 1, BGP_POOL_6)):
            everything = advanced_prefixes(addresses, index)
            assert len(everything) == 5
            for router in (standard.frr, standard.bird):
                routes = router.wait_routes(version, everything, timeout=25)
                routes = wait_from(standard, router, aggregate, ALL_NODES)
                for prefix in everything - {aggregate}:
                    assert communities(routes, prefix) == {NO_ADVERTISE}
                assert communities(routes, aggregate) == {BATCH}
            internal = standard.bird.learned(version)
            assert {p.local_pref for n in everything - {aggregate} for p in internal[n]} == {100}
            assert {p.local_pref for p in internal[aggregate]} == {0}
            passed_on = standard.upstream.wait_routes(version, {aggregate})
            assert communities(passed_on, aggregate) == {BATCH}
        for words in (["no-advertise"], ["stay-here"]):
            use_alias_for_single_addresses(standard, words)
        last = services.pop()
        standard.api.kubectl("delete", "service", "-n", "default", *services)
        for version, index in ((4, 0), (6, 1)):
            left = advanced_prefixes({last: addresses[last]}, index)
            assert len(left) == 2
            standard.frr.wait_routes(version, left)
            standard.bird.wait_routes(version, left)
        standard.upstream.wait_routes(4, {BGP_POOL_4})
        standard.api.kubectl("delete", "service", "-n", "default", last)
        for version in (4, 6):
            for router in (standard.frr, standard.bird, standard.upstream):
                router.wait_routes(version, set())
        assert standard.frr.neighbors()["192.0.2.11"].established


def use_alias_for_single_addresses(lab: StandardLab, words: list[str]) -> None:
    """Another spelling of the same community: the routers keep exactly what they have."""
    alias = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "Community",
        "metadata": {"name": "stay-here", "namespace": "metallb-system"},
        "spec": {"communities": [{"name": "stay-here", "value": NO_ADVERTISE}]},
    }
    lab.api.kubectl("apply", "-f", "-", stdin=json.dumps(alias))
    before = lab.frr.query("show bgp ipv4 unicast json")["tableVersion"]
    marked = [*words, "64500:1"]
    patch = ["patch", "bgpadvertisement", "single-addresses", "-n", "metallb-system"]
    patch += ["--type=merge", "-p"]
    for spelling in (marked, words):
        lab.api.kubectl(*patch, json.dumps({"spec": {"communities": spelling}}))
        wanted = {NO_ADVERTISE, *spelling[1:]}

        def changed(wanted: set[str] = wanted) -> bool:
            routes = lab.frr.learned(4)
            singles = set(routes) - {BGP_POOL_4}
            return all(communities(routes, prefix) == wanted for prefix in singles)

        wait_until(changed, 15, f"communities {wanted} at the router")
    assert lab.frr.query("show bgp ipv4 unicast json")["tableVersion"] > before
    assert set(lab.upstream.learned(4)) == {BGP_POOL_4}
    lab.api.kubectl("delete", "community", "stay-here", "-n", "metallb-system", "--wait=false")
    lab.api.kubectl(*patch, json.dumps({"spec": {"communities": [NO_ADVERTISE]}}))


def test_a_subset_of_the_nodes(standard: StandardLab) -> None:
    with applied(standard, "03-nodes-subset"):
        (pair,) = vips(standard, "web-1").values()
        for prefix in (f"{pair[0]}/32", f"{pair[1]}/128"):
            for router in (standard.frr, standard.bird):
                wait_from(standard, router, prefix, {"node-a", "node-b"})
        standard.frr.wait_established("192.0.2.13", "2001:db8:1::d")
        assert standard.frr.neighbors()["192.0.2.13"].received == 0
        gateways = standard.frr.kernel_routes(4)[f"{pair[0]}/32"]
        assert gateways == ["192.0.2.11", "192.0.2.12"]


def test_specific_peers(standard: StandardLab) -> None:
    with applied(standard, "04-specific-peers"):
        (pair,) = vips(standard, "web-1").values()
        singles = {4: f"{pair[0]}/32", 6: f"{pair[1]}/128"}
        for prefix in singles.values():
            wait_from(standard, standard.frr, prefix, ALL_NODES)
        standard.bird.wait_established()
        assert [standard.bird.learned(version) for version in (4, 6)] == [{}, {}]
        patch = json.dumps({"spec": {"peers": ["bird", "bird-v6"]}})
        ad = ["bgpadvertisement", "to-frr-only", "-n", "metallb-system"]
        standard.api.kubectl("patch", *ad, "--type=merge", "-p", patch)
        for version, prefix in singles.items():
            wait_from(standard, standard.bird, prefix, ALL_NODES)
            standard.frr.wait_routes(version, set())


def test_l2(standard: StandardLab) -> None:
    with applied(standard, "05-l2"):
        addresses = vips(standard, "web-1", "web-2")
        every = [address for pair in addresses.values() for address in pair]
        owners = {address: owner(standard, address) for address in every}
        assert set(owners.values()) <= ALL_NODES
        for address in every:
            assert served(standard.client, address).startswith("served by node-")
        assert standard.owners("192.0.2.227") == []
    wait_until(lambda: not any(standard.owners(a) for a in every), 10, "nobody answers any more")


def test_l2_owner_dies_and_another_node_takes_over(standard: StandardLab) -> None:
    with applied(standard, "05-l2"):
        addresses = vips(standard, "web-1", "web-2")["web-1"]
        first = owner(standard, addresses[0])
        takeover = observe.measure_takeover(
            standard.client, addresses[0], lambda: standard.power_off(first), timeout=60
        )
        try:
            assert takeover.new_mac != takeover.old_mac
            second = owner(standard, addresses[0])
            assert second != first
            assert owner(standard, addresses[1]) != first
            assert served(standard.client, addresses[0])
        finally:
            standard.power_on(first)
        wait_until(lambda: standard.owners(standard.nodes[first].ipv4), 10, f"{first} is back")


def test_l2_by_labels(standard: StandardLab) -> None:
    with applied(standard, "06-l2-by-labels"):
        addresses = vips(standard, "web-east", "web-west")
        for address in addresses["web-east"]:
            assert owner(standard, address) in ALL_NODES
        assert [standard.owners(address) for address in addresses["web-west"]] == [[], []]


def test_l2_on_selected_interfaces(standard: StandardLab) -> None:
    with applied(standard, "07-l2-interfaces"):
        addresses = vips(standard, "web-second", "web-nowhere")
        for address in addresses["web-second"]:
            assert owner(standard, address, "eth1") in {"node-a", "node-b"}
            assert standard.owners(address, "eth0") == []
        for address in addresses["web-nowhere"]:
            assert standard.owners(address, "eth0") == []
            assert standard.owners(address, "eth1") == []

        def told() -> list[str]:
            events = standard.api.items("events", "-n", "default")
            about = [e for e in events if e["involvedObject"]["name"] == "web-nowhere"]
            return [e["message"] for e in about if "eth1" in e["message"]]

        messages = wait_until(told, 15, "an event says that the chosen node lacks eth1")
        assert any("node-c" in message for message in messages)
        explained = standard.api.clarion("explain", "service", "default/web-nowhere", check=False)
        assert "node-c" in explained
        assert "eth1" in explained


def test_l2_and_bgp_for_the_same_addresses(standard: StandardLab) -> None:
    with applied(standard, "08-l2-and-bgp"):
        addresses = vips(standard, "web-1", "web-2")
        for ipv4, ipv6 in addresses.values():
            for prefix in (f"{ipv4}/32", f"{ipv6}/128"):
                for router in (standard.frr, standard.bird):
                    wait_from(standard, router, prefix, ALL_NODES)
            assert owner(standard, ipv4) in ALL_NODES
            assert owner(standard, ipv6) in ALL_NODES
        for host in (standard.client, standard.upstream_host):
            for address in addresses["web-2"]:
                assert served(host, address)


def test_community_aliases(standard: StandardLab) -> None:
    with applied(standard, "09-community-alias"):
        (pair,) = vips(standard, "web-1").values()
        for prefix in (f"{pair[0]}/32", f"{pair[1]}/128"):
            for router in (standard.frr, standard.bird):
                routes = wait_from(standard, router, prefix, ALL_NODES)
                assert communities(routes, prefix) == {NO_ADVERTISE, BATCH}
                large = {path.large_communities for path in routes[prefix]}
                assert large == {("64500:7:1",)}
        assert standard.upstream.learned(4) == {}


@contextmanager
def told(lab: StandardLab, name: str) -> Iterator[None]:
    """The routers with the configuration of an example."""
    lab.frr.load(EXAMPLES / name / "frr.conf")
    lab.bird.load(EXAMPLES / name / "bird.conf")
    try:
        yield
    finally:
        for router in (lab.frr, lab.bird):
            router.configure(router.config)
        lab.upstream.wait_established()


def test_production_bgp(standard: StandardLab) -> None:
    folder = "11-production-bgp"
    with told(standard, folder), applied(standard, folder):
        (pair,) = vips(standard, "web-1").values()
        shares = {"node-a": 250_000, "node-b": 125_000, "node-c": 125_000}
        for prefix in (f"{pair[0]}/32", f"{pair[1]}/128"):
            for router in (standard.frr, standard.bird):
                routes = wait_from(standard, router, prefix, ALL_NODES)
                assert communities(routes, prefix) == {"64500:100"}
                for path in routes[prefix]:
                    node = standard.node_of_next_hop(path.next_hop)
                    assert path.large_communities == ("64500:1:100",)
                    assert path.extended_communities == (f"lb:64500:{shares[node]}",)
            # The last router asked is BIRD, which is internal.
            assert {path.local_pref for path in routes[prefix]} == {200}
        for version, address in ((4, pair[0]), (6, pair[1])):
            wait_until(partial(in_shares, standard, version), 20, "weights 2 to 1 to 1")
            assert served(standard.upstream_host, address).startswith("served by node-")
        wait_bfd(standard, *ALL_NODES)
        assert {
            (row["remote-transmit-interval"], row["remote-detect-multiplier"], row["multihop"])
            for row in standard.frr.bfd_peers()
        } == {(300, 3, False)}

        def watched() -> bool:
            rows = standard.bird.birdc("show bfd sessions").splitlines()
            return len([row for row in rows if " Up " in row]) == 6

        wait_until(watched, 20, "BIRD has six BFD sessions that are up")
        standard.bird.wait_established()
        nodes = [standard.nodes[name] for name in ALL_NODES]
        holds = {standard.frr.neighbors()[node.ipv4].hold_time for node in nodes}
        assert holds == {90}


def in_shares(lab: StandardLab, version: int) -> bool:
    """Whether FRR's kernel sends as much to node-a as to the other two."""
    (weights,) = lab.frr.kernel_weights(version).values()
    shares = {lab.node_of_next_hop(hop): weight for hop, weight in weights.items()}
    assert set(shares) == ALL_NODES
    return shares["node-a"] == 2 * shares["node-b"] == 2 * shares["node-c"]


MISTAKES = (
    ("pool-misspelt.yaml", "spec.ipAddressPools[1]", "spear", False),
    ("pools-overlap.yaml", "spec.addresses[0]", "overlaps", True),
    ("alias-unknown.yaml", "spec.communities[0]", "no-such-alias", False),
    ("prefix-too-long.yaml", "spec.addresses[1]", "/33", True),
)


@pytest.mark.parametrize(("file", "path", "fact", "refused"), MISTAKES)
def test_a_mistake_is_named_and_hurts_nothing(
    standard: StandardLab, file: str, path: str, fact: str, refused: bool
) -> None:
    bad = str(EXAMPLES / "bad" / file)
    good = str(EXAMPLES / "01-basic-bgp")
    said = standard.api.clarion("validate", "-f", good, "-f", bad, check=False)
    (place,) = re.findall(r"^(\S+\.yaml):(\d+):(\d+): (?:error|warning) \[", said, re.MULTILINE)
    assert place[0].endswith(file)
    assert Path(bad).read_text().splitlines()[int(place[1]) - 1].lstrip().startswith("- ")
    assert path in said
    assert fact in said
    with applied(standard, "01-basic-bgp"):
        addresses = vips(standard, "web-1", "web-2")
        for ipv4, ipv6 in addresses.values():
            for prefix in (f"{ipv4}/32", f"{ipv6}/128"):
                wait_from(standard, standard.frr, prefix, ALL_NODES)
        before = arrivals(standard)
        answer = standard.api.kubectl("apply", "-f", bad, check=False)
        try:
            assert ("denied" in answer or "invalid" in answer.lower()) == refused, answer
            if refused:
                assert fact in answer
            standard.check()
            assert arrivals(standard) == before
        finally:
            standard.api.kubectl("delete", "--ignore-not-found", "-f", bad)


def arrivals(lab: StandardLab) -> dict[str, tuple[int, int, int]]:
    """Per session: how often it came up, UPDATEs heard since, prefixes held."""
    return {
        address: (
            state.raw.get("connectionsEstablished", 0),
            state.raw["messageStats"]["updatesRecv"],
            state.received,
        )
        for address, state in lab.frr.neighbors().items()
    }
