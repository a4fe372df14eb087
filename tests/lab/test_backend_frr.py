"""The back end `frr`: what a speaker that drives an FRR does that the native one has no need of.

Judged by a second FRR and by BIRD; what is alike for both back ends is in `test_backends.py`.

The node's FRR begins with the configuration of somebody else, which must go; the routers' own
counts say which sessions were lost.
"""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from clarion.lab.frr import RUN
from clarion.lab.netns import Lab, sweep
from clarion.lab.nodes import SYSTEM_NAMESPACE, ApiHost, Node
from clarion.lab.process import wait_until
from clarion.lab.routers import Bird, Frr, Neighbor, RouterConfig
from clarion.model.annotations import (
    LINK_BANDWIDTH,
    LOAD_BALANCER_IPS,
    MAX_PREFIXES,
    TTL_SECURITY,
)

from .conftest import TEST_PREFIX
from .programs_bed import metallb, service

pytestmark = pytest.mark.lab

NODE, NODE6 = "192.0.2.11", "2001:db8:1::b"
FRR, FRR6, BIRD, API = "192.0.2.1", "2001:db8:1::1", "192.0.2.2", "192.0.2.10"
V4, V6 = "203.0.113.1/32", "2001:db8:5::1/128"
OVERLAY = Path(__file__).parents[2] / "deploy" / "kustomize" / "frr"
SLICES = {"IPv4": NODE, "IPv6": NODE6}


def endpoints(family: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"web-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "endpoints": [{"addresses": [address], "nodeName": "node-a"}],
        "ports": [{"name": "http", "port": 8080}],
    }


PEERS = {
    "frr": {"peerASN": 64512, "peerAddress": FRR},
    "frr6": {"peerASN": 64512, "peerAddress": FRR6},
    "bird": {"peerASN": 64500, "peerAddress": BIRD},
}
ADVERTISED: dict[str, Any] = {
    "ipAddressPools": ["base"],
    "localPref": 150,
    "communities": ["64500:7", "no-export"],
}
TIMERS = {"holdTime": "9s", "keepaliveTime": "3s", "connectTime": "1s"}


class Bed:
    """A node with its FRR, two routers, and the API."""

    def __init__(self, lab: Lab) -> None:
        switch = lab.switch("sw")
        for number, name in ((1, "frr"), (2, "bird"), (10, "api"), (11, "node-a")):
            host = lab.namespace(name, forwarding=name in ("frr", "bird", "node-a"))
            switch.attach(host, addresses=[f"192.0.2.{number}/24", f"2001:db8:1::{number:x}/64"])
        hosts = lab.namespaces
        self.api = ApiHost(hosts["api"], API)
        self.node = Node(hosts["node-a"], [], NODE, NODE6)
        node = partial(Neighbor, remote_as=64500, passive=True)
        self.frr = Frr(
            hosts["frr"],
            RouterConfig(
                asn=64512,
                router_id=FRR,
                neighbors=(
                    node(address=NODE, bfd=True, families=("ipv4", "ipv6")),
                    node(address=NODE6),
                ),
            ),
        )
        neighbors = (node(address=NODE),)
        self.bird = Bird(
            hosts["bird"], RouterConfig(asn=64500, router_id=BIRD, neighbors=neighbors)
        )
        stranger = Neighbor(address="192.0.2.99", remote_as=64999, bfd=True)
        self.own = Frr(
            hosts["node-a"],
            RouterConfig(
                asn=64999, router_id=NODE, neighbors=(stranger,), networks=("198.51.100.0/24",)
            ),
        )

    def up(self) -> None:
        self.api.start_api()
        for router in (self.frr, self.bird, self.own):
            router.start()
        self.api.wait_api()
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": SYSTEM_NAMESPACE},
        }
        self.apply(namespace)
        self.api.start_controller()
        self.start_speaker()
        self.apply(
            metallb("IPAddressPool", "base", addresses=["203.0.113.0/24", "2001:db8:5::/64"]),
            metallb("BGPAdvertisement", "base", **ADVERTISED),
            *(self.peer(name) for name in PEERS),
            service("web", notes={LOAD_BALANCER_IPS: "203.0.113.1,2001:db8:5::1"}),
            *(endpoints(*item) for item in SLICES.items()),
        )

    def start_speaker(self, folder: str = "") -> None:
        folder = folder or str(RUN / self.own.pathspace)
        self.node.start_speaker(
            self.api.kubeconfig,
            *("--bgp", "frr", "--frr-vty-dir", folder, "--listen-http", "127.0.0.1:7472"),
            *("--bgp-graceful-shutdown", "1s"),
        )

    def peer(self, name: str, **more: Any) -> dict[str, Any]:
        return metallb("BGPPeer", name, "v1beta2", myASN=64500, **PEERS[name], **TIMERS, **more)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.api.kubectl("apply", "-f", "-", stdin="\n".join(map(json.dumps, objects)))

    def delete(self, kind: str, name: str) -> None:
        self.api.kubectl("delete", kind, name, "-n", SYSTEM_NAMESPACE)

    def established(self) -> dict[str, int]:
        """The router's count of how often each session came up."""
        found = self.frr.query("show bgp neighbors json")
        return {address: found[address]["connectionsEstablished"] for address in (NODE, NODE6)}

    def judged(self) -> tuple[str, str]:
        """Result and summary of the speaker's ConfigurationState."""
        items = self.api.items("configurationstates", "-n", SYSTEM_NAMESPACE)
        (status,) = (i["status"] for i in items if i["metadata"]["name"] == "speaker-node-a")
        return status["result"], status.get("errorSummary", "")

    def metrics(self) -> list[str]:
        url = "http://127.0.0.1:7472/metrics"
        return self.node.namespace.run(["curl", "-s", "--max-time", "5", url]).stdout.splitlines()

    def wait_metric(self, line: str) -> None:
        wait_until(lambda: line in self.metrics(), 30, f"the speaker's metrics have {line}")

    def wait_default(self) -> None:
        """All sessions are up and both routers have what the shared configuration gives."""
        self.frr.wait_established(NODE, NODE6, timeout=40)
        self.bird.wait_established(NODE, timeout=40)

        def there() -> bool:
            four = self.frr.learned(4).get(V4, [])
            six = self.frr.learned(6).get(V6, [])
            inside = self.bird.learned(4).get(V4, [])
            wanted = ("64500:7", "65535:65281")
            return (
                [path.communities for path in (*four, *six)] == [wanted, wanted]
                and [path.local_pref for path in inside] == [150]
                and set(self.frr.learned(4)) == {V4}
            )

        wait_until(there, 40, "both routers have the routes with their attributes")


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}f") as lab:
        made = Bed(lab)
        made.up()
        yield made


@pytest.fixture
def bed(shared: Bed) -> Bed:
    shared.wait_default()
    return shared


def test_routes_have_their_attributes_and_a_strangers_configuration_is_gone(bed: Bed) -> None:
    running = bed.own.vtysh("show running-config")
    assert "router bgp 64500" in running
    assert "64999" not in running
    assert "192.0.2.99" not in running
    bed.wait_metric('metallb_bgp_session_up{peer="192.0.2.1:179",vrf="default"} 1.0')
    bed.wait_metric('metallb_bgp_session_up{peer="[2001:db8:1::1]:179",vrf="default"} 1.0')
    bed.wait_metric('metallb_bgp_announced_prefixes_total{peer="192.0.2.1:179",vrf="default"} 1.0')
    bed.wait_metric("clarion_frr_refused_objects 0.0")
    wait_until(lambda: bed.judged() == ("Valid", ""), 30, "nothing is refused any more")


def test_weights_and_extended_communities_reach_the_router_without_a_reset(bed: Bed) -> None:
    before = bed.established()
    marks = ["extended:rt:64512:100", "extended:soo:192.0.2.11:7"]
    changed = metallb("BGPAdvertisement", "base", **{**ADVERTISED, "communities": marks})
    changed["metadata"]["annotations"] = {LINK_BANDWIDTH: "endpoints"}
    local = {"spec": {"externalTrafficPolicy": "Local"}}
    bed.apply(changed)
    bed.api.kubectl("patch", "service", "web", "-p", json.dumps(local))

    def told(*wanted: str) -> bool:
        entry = bed.frr.query(f"show bgp ipv4 unicast {V4} json")
        text = entry["paths"][0].get("extendedCommunity", {}).get("string", "")
        return all(word in text for word in wanted)

    try:
        wait_until(lambda: told("RT:64512:100", "SoO:192.0.2.11:7", "(1.000 Mbps)"), 30, "weight 1")
        two = endpoints("IPv4", NODE)
        two["endpoints"].append({"addresses": ["192.0.2.99"], "nodeName": "node-a"})
        bed.apply(two)
        wait_until(lambda: told("RT:64512:100", "SoO:192.0.2.11:7", "(2.000 Mbps)"), 30, "weight 2")
    finally:
        local["spec"]["externalTrafficPolicy"] = "Cluster"
        bed.api.kubectl("patch", "service", "web", "-p", json.dumps(local))
        bed.apply(endpoints("IPv4", NODE), metallb("BGPAdvertisement", "base", **ADVERTISED))
    bed.wait_default()
    assert not told("bps")
    assert bed.established() == before


def test_a_node_that_is_drained_is_the_last_choice(bed: Bed) -> None:
    before = bed.established()
    bed.api.kubectl("cordon", "node-a")
    try:

        def shed() -> bool:
            inside = bed.bird.learned(4).get(V4, [])
            outside = bed.frr.learned(4).get(V4, [])
            return [path.local_pref for path in inside] == [0] and all(
                "65535:0" in path.communities for path in (*inside, *outside)
            )

        wait_until(shed, 30, "both routers have the community, the internal one preference 0")
    finally:
        bed.api.kubectl("uncordon", "node-a")
    bed.wait_default()
    assert bed.established() == before


def test_what_peers_may_ask_for_is_put_in_force(bed: Bed) -> None:
    asked = bed.peer("frr", localASN=64999)
    asked["metadata"]["annotations"] = {TTL_SECURITY: "1", MAX_PREFIXES: "1"}
    bed.apply(asked)
    lines = (
        f"neighbor {FRR} local-as 64999 no-prepend replace-as",
        f"neighbor {FRR} ttl-security hops 1",
        f"neighbor {FRR} maximum-prefix 1 force",
    )
    try:
        wait_until(
            lambda: all(line in bed.own.vtysh("show running-config") for line in lines),
            30,
            "FRR runs what was asked for",
        )
        # The router expects another number: FRR says that its session is refused for it.
        wait_until(lambda: not bed.frr.neighbors()[NODE].established, 40, "the session is lost")
    finally:
        bed.apply(bed.peer("frr"))
    bed.wait_default()


def test_a_removed_peer_takes_no_other_along(bed: Bed) -> None:
    before = bed.established()
    bed.delete("bgppeer", "bird")
    try:
        wait_until(lambda: not bed.bird.neighbors()[NODE].established, 30, "BIRD lost its session")
        wait_until(lambda: BIRD not in bed.own.vtysh("show running-config"), 30, "no trace is left")
    finally:
        bed.apply(bed.peer("bird"))
    bed.wait_default()
    assert bed.established() == before


def test_what_frr_refuses_is_told_of_the_object(bed: Bed) -> None:
    before = bed.established()
    bed.apply(bed.peer("frr", localASN=64500))
    try:

        def told() -> bool:
            events = bed.api.items("events", "-n", SYSTEM_NAMESPACE)
            return any(
                each["involvedObject"]["name"] == "frr" and "FRR refuses" in each["message"]
                for each in events
            )

        wait_until(told, 30, "an event at the peer has FRR's words")
        wait_until(
            lambda: bed.judged()[0] == "Invalid", 30, "the refusal is in the ConfigurationState"
        )
        summary = bed.judged()[1]
        assert f"[frr-refuses] BGPPeer {SYSTEM_NAMESPACE}/frr: FRR refuses 'neighbor" in summary
        assert "local-as 64500" in summary
        bed.wait_metric("clarion_frr_refused_objects 1.0")
    finally:
        bed.apply(bed.peer("frr"))
    bed.wait_metric("clarion_frr_refused_objects 0.0")
    bed.wait_default()
    assert bed.established() == before


def test_sessions_outlive_the_speaker(bed: Bed) -> None:
    before = bed.established()
    assert bed.node.speaker is not None
    bed.node.speaker.kill()
    bed.start_speaker()
    bed.wait_metric('metallb_bgp_session_up{peer="192.0.2.1:179",vrf="default"} 1.0')
    bed.wait_default()
    assert bed.established() == before


def test_an_frr_that_begins_anew_is_told_everything_again(bed: Bed) -> None:
    bed.own.restart(hard=True)
    bed.wait_default()
    assert "64999" not in bed.own.vtysh("show running-config")


def test_the_containers_of_the_overlay_are_an_frr(bed: Bed) -> None:
    """Their commands as they stand, each with the volume at its place, run Debian's FRR."""
    workload = bed.api.kubectl("kustomize", str(OVERLAY))
    (daemonset,) = (d for d in yaml.safe_load_all(workload) if d["kind"] == "DaemonSet")
    speaker, *daemons = daemonset["spec"]["template"]["spec"]["containers"]
    assert "--bgp=frr" in speaker["args"]
    assert [each["name"] for each in daemons] == ["zebra", "bfdd", "bgpd"]
    places = {
        mount["mountPath"]
        for c in daemonset["spec"]["template"]["spec"]["containers"]
        for mount in c["volumeMounts"]
        if mount["name"] == "frr"
    }
    assert places == {"/var/run/frr"}
    assert bed.node.speaker is not None
    bed.node.speaker.stop()
    bed.own.stop()
    volume = bed.node.namespace.lab.folder(bed.node.namespace.lab.run_dir / "volume")
    volume.chmod(0o777)
    script = 'mount --bind "$0" /var/run/frr && exec "$@"'
    for each in daemons:
        argv = ["unshare", "-m", "sh", "-c", script, str(volume), *each["command"]]
        bed.node.namespace.popen(argv, log=f"container-{each['name']}.log")
    bed.start_speaker(str(volume))
    bed.wait_default()
    bed.wait_metric("clarion_frr_answers_bool 1.0")
    bed.wait_metric("clarion_frr_refused_objects 0.0")
