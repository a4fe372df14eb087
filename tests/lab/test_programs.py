"""Controller, speakers and embedded API as users run and break them.

Judges: FRR's own counts of UPDATEs and sessions, BIRD, arping, ndisc6 and kubectl. One lab and one
configuration serve all tests; each puts back what it broke.
"""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.base import limits
from clarion.lab import observe
from clarion.lab.nodes import Node, clarion
from clarion.lab.process import CLOCK, wait_until

from .programs_bed import ALL, SYSTEM, Bed, asked, metallb, report, running, service

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with running("p") as made:
        yield made


OUTAGE_SECONDS = 15.0
assert OUTAGE_SECONDS > 3 * limits.SPEAKER_LEASE_DURATION_SECONDS


# --- the controller ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_controller_keeps_every_address(bed: Bed, number: signal.Signals) -> None:
    controller = bed.lab.api.controller
    assert controller is not None
    kept, before = bed.vips("keep"), bed.sessions()
    controller.signal(number)
    assert controller.wait() == (0 if number is signal.SIGTERM else -number)
    with bed.applied(service("while-away")):
        assert bed.ingress("while-away") == []
        bed.lab.api.start_controller()
        assert bed.vips("while-away") != kept
        assert bed.vips("keep") == kept
        pool = bed.lab.api.get("ipaddresspool", "base", "-n", SYSTEM)["status"]
        assert pool["assignedIPv4"] == 2
        bed.wait_from(bed.lab.frr, bed.vips("while-away")[0], ALL)
        ups = {address: up for address, (up, _) in bed.sessions().items()}
        assert ups == {address: up for address, (up, _) in before.items()}
        assert not any(reason == "ClearAssignment" for reason, _ in bed.events("keep"))


def test_somebody_elses_change_of_a_status_is_repaired(bed: Bed) -> None:
    wanted = bed.vips("keep")
    stolen = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.77"}]}}}
    marks = {"metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "elsewhere"}}}
    patch = ["patch", "service", "keep", "-n", "default", "--type=merge", "-p"]
    bed.kubectl(*patch, json.dumps(stolen), "--subresource=status")
    bed.kubectl(*patch, json.dumps(marks))

    def repaired() -> bool:
        found = bed.lab.api.get("service", "keep", "-n", "default")
        pool = found["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"]
        return set(bed.ingress("keep")) == set(wanted) and pool == "base"

    wait_until(repaired, 20, "the status is as decided")
    pool = {"status": {"assignedIPv4": 9, "availableIPv4": 0}}
    bed.kubectl(
        *("patch", "ipaddresspool", "base", "-n", SYSTEM, "--subresource=status"),
        *("--type=merge", "-p", json.dumps(pool)),
    )

    def counted() -> bool:
        status = bed.lab.api.get("ipaddresspool", "base", "-n", SYSTEM)["status"]
        return bool(status["assignedIPv4"] == 1 and status["availableIPv4"] == 15)

    wait_until(counted, 20, "the pool's usage is as counted")
    for kind in ("servicel2statuses", "servicebgpstatuses"):
        names = {each["metadata"]["name"] for each in bed.lab.api.items(kind, "-n", SYSTEM)}
        assert names
        bed.kubectl("delete", kind, "--all", "-n", SYSTEM)

        def back(kind: str = kind, names: set[str] = names) -> bool:
            found = bed.lab.api.items(kind, "-n", SYSTEM)
            return names == {e["metadata"]["name"] for e in found if e.get("status")}

        wait_until(back, 20, f"{kind} are written again")
    for router in (bed.lab.frr, bed.lab.bird):
        bed.wait_from(router, wanted[0], ALL)


# --- the API ---


def test_an_api_that_crashes_while_written_to_loses_nothing_and_stops_nothing(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    owner, before = bed.owner(address), bed.sessions()
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"crash-{number}"
            said = bed.kubectl("create", "configmap", name, "-n", "default", check=False)
            if said.startswith(f"configmap/{name} created"):
                acknowledged.append(name)

    api = bed.lab.api.api
    assert api is not None
    with asked(bed, address) as silence:
        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: len(acknowledged) >= 3, 20, "some writes are acknowledged")
        api.kill()
        bed.lab.api.start_api()
        bed.lab.api.wait_api()
        count = len(acknowledged)
        wait_until(lambda: len(acknowledged) > count, 20, "writes are taken again")
        stop.set()
        writer.join()
        stored = {each["metadata"]["name"] for each in bed.lab.api.items("cm", "-n", "default")}
        assert set(acknowledged) <= stored
        with bed.applied(service("after-crash")):
            bed.wait_from(bed.lab.frr, bed.vips("after-crash")[0], ALL)
            bed.wait_from(bed.lab.frr, address, ALL)
    report("API killed and started again", silence)
    assert silence.heard() == [bed.lab.nodes[owner].namespace.mac("eth0")]
    after = bed.sessions()
    assert {a: ups for a, (ups, _) in after.items()} == {a: ups for a, (ups, _) in before.items()}


def test_an_api_that_hangs_for_longer_than_a_lease_changes_no_owner(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    owner, before = bed.owner(address), bed.sessions()
    api = bed.lab.api.api
    assert api is not None
    with asked(bed, address) as silence:
        api.signal(signal.SIGSTOP)
        try:
            away = CLOCK.monotonic() + OUTAGE_SECONDS
            wait_until(lambda: CLOCK.monotonic() > away, OUTAGE_SECONDS + 5, "the outage is over")
        finally:
            api.signal(signal.SIGCONT)
        bed.lab.api.wait_api()
        back = CLOCK.monotonic() + 2 * limits.SPEAKER_LEASE_RENEW_SECONDS
        wait_until(lambda: CLOCK.monotonic() > back and len(bed.leases()) == 3, 20, "Leases live")
    report(f"API stopped for {OUTAGE_SECONDS:.0f} s", silence)
    assert silence.heard() == [bed.lab.nodes[owner].namespace.mac("eth0")]
    assert bed.sessions() == before
    assert bed.owner(bed.vips("keep")[1]) == owner


# --- the speakers ---


def test_a_speaker_that_is_stopped_hands_over_without_a_gap(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    node = bed.lab.nodes[bed.owner(address)]
    with asked(bed, address) as silence:
        assert node.stop_speaker() == 0
        assert node.name not in bed.leases()
        bed.wait_from(bed.lab.frr, address, ALL - {node.name})
        bed.wait_from(bed.lab.bird, address, ALL - {node.name})
        assert "Shutdown" in bed.lab.frr.neighbors()[node.ipv4].last_error
        heir = bed.owner(address, node.name)
        report(f"SIGTERM of the owner, {heir} takes over", silence)
        node.start_speaker(bed.lab.api.kubeconfig)
        bed.wait_ready(node)
        bed.wait_from(bed.lab.frr, address, ALL)
        bed.wait_owner(address, node.name)
    report("and back", silence)
    macs = [bed.lab.nodes[name].namespace.mac("eth0") for name in (node.name, heir)]
    assert silence.heard() == macs
    assert silence.longest() < limits.SPEAKER_LEASE_DURATION_SECONDS


def test_answers_go_on_while_a_killed_speaker_is_restarted(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    node = bed.lab.nodes[bed.owner(address)]
    assert node.speaker is not None
    with asked(bed, address) as silence:
        node.speaker.kill()
        killed = CLOCK.monotonic()
        silence.answers_after(killed, 5)
        node.start_speaker(bed.lab.api.kubeconfig)
        bed.wait_ready(node)
        bed.wait_from(bed.lab.frr, address, ALL)
        wait_until(lambda: len(pulses(node)) == 1, 20, "one pulse process is left")
    report("kill -9 of the speaker's main process, restarted", silence)
    assert silence.heard() == [node.namespace.mac("eth0")]
    assert silence.longest() < limits.SPEAKER_LEASE_DURATION_SECONDS


def pulses(node: Node) -> list[int]:
    """Process ids of the node's pulse processes."""
    return [pid for pid in node.namespace.pids() if "clarion.daemons.pulse" in command_of(pid)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_a_node_that_dies_loses_its_addresses_to_another(bed: Bed) -> None:
    address = bed.vips("keep")[0]
    node = bed.lab.nodes[bed.owner(address)]
    takeover = observe.measure_takeover(
        bed.lab.client, address, lambda: bed.lab.power_off(node.name)
    )
    try:
        sys.stderr.write(f"\n  node dead: another answers after {takeover.seconds:.2f} s\n")
        assert takeover.new_mac != takeover.old_mac
        bed.wait_from(bed.lab.frr, address, ALL - {node.name})

        def told() -> bool:
            found = bed.lab.api.items("servicel2statuses", "-n", SYSTEM)
            about = [e["status"]["node"] for e in found if e["status"]["serviceName"] == "keep"]
            return len(about) == 1 and about[0] != node.name

        wait_until(told, 20, "one ServiceL2Status, of the heir")
        shown = json.loads(bed.lab.api.clarion("status", "-o", "json"))
        speakers = {row["node"]: row for row in shown["Speakers"]}
        assert speakers[node.name]["alive"].startswith("no, silent for ")
        assert speakers[node.name]["sessions"] == "unknown"
        assert "frr Established" in next(
            row["sessions"] for name, row in speakers.items() if name != node.name
        )
        (keep,) = (row for row in shown["Services"] if row["service"] == "default/keep")
        assert node.name not in keep["announced by BGP from"] + keep["answered by"]
    finally:
        bed.lab.power_on(node.name)
    bed.wait_ready(node)
    bed.wait_owner(address, node.name)
    wait_until(
        lambda: observe.http_get(bed.lab.client, address), 20, "HTTP through the address again"
    )


def test_what_a_node_lacks_is_told_and_waited_for(bed: Bed) -> None:
    """No Node object, the BGP port taken, at last no interface: the speaker lives and says so."""
    lab = bed.lab
    host = lab.lab.namespace("stranger")
    lab.switch.attach(host, addresses=["192.0.2.50/24"])
    lab.second.attach(host, "eth1", ["198.51.100.250/25"])
    host.popen([sys.executable, "-m", "http.server", "179", "--bind", "0.0.0.0"])
    wait_until(lambda: ":179 " in host.run(["ss", "-ltn"]).stdout, 20, "the port is taken")
    argv = clarion("speaker", "--node-name", "stranger", "--kubeconfig", str(lab.api.kubeconfig))
    speaker = host.popen([*argv, "--namespace", SYSTEM], log="stranger.log")
    node = Node(host, [], "192.0.2.50", "")
    said = "no Node stranger in the API"
    wait_until(lambda: bed.probe(node, "readyz") == said, 20, "it says what is missing")
    told = "no Node of this name is in the API"
    wait_until(lambda: told in speaker.tail(50), 20, "the log says so, too")
    meta = {"name": "stranger", "labels": {"rack": "stranger"}}
    bed.apply({"apiVersion": "v1", "kind": "Node", "metadata": meta})
    wait_until(lambda: bed.probe(node, "readyz") == "ok", 20, "it is ready")
    assert "cannot listen" not in speaker.tail(50), "nobody is waited for yet"
    waited = metallb(
        "BGPPeer",
        "waited",
        "v1beta2",
        myASN=64500,
        peerASN=64599,
        peerAddress="192.0.2.99",
        nodeSelectors=[{"matchLabels": {"rack": "stranger"}}],
    )
    waited["metadata"]["annotations"] = {"clarion.metallb.io/passive": "true"}
    with bed.applied(waited):
        wait_until(
            lambda: "cannot listen for BGP peers" in speaker.tail(50), 20, "the port is missed"
        )
    assert speaker.alive
    bed.wait_from(lab.frr, bed.vips("keep")[0], ALL)

    def interfaces() -> set[str]:
        shown = json.loads(bed.probe(node, "debug/snapshot"))
        return {each["name"] for each in shown["interfaces"]}

    assert "eth1" in interfaces()
    host.ip("link", "del", "eth1")
    wait_until(lambda: "eth1" not in interfaces(), 20, "it sees the interface go")
    bed.kubectl("delete", "node", "stranger")
    wait_until(lambda: bed.probe(node, "readyz") == said, 20, "it is missed again")
    assert speaker.stop() == 0
    lab.lab.remove_namespace("stranger")
