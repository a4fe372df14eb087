"""The image is built as the Dockerfile says; the speaker in it needs what its manifest gives it.

Each capability is needed and no other is. Judges: FRR, BIRD, arping, ndisc6.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import yaml

from clarion import __version__
from clarion.lab.netns import Namespace
from clarion.lab.nodes import SYSTEM_NAMESPACE, ApiHost
from clarion.lab.process import Process, run, wait_until
from clarion.lab.routers import Neighbor, Router, RouterConfig

from .conftest import Segment
from .image_bed import ROOT, Image, as_kubernetes_does, as_systemd_does, host_can_build
from .programs_bed import metallb

pytestmark = pytest.mark.lab

Privileges = Callable[[Sequence[str]], list[str]]
Configured = Callable[[str, RouterConfig], Router]
NODE, NUMBER, ASN = "imaged", 30, 64513
ADDRESSES = ("203.0.113.70", "2001:db8:ff::70")
SECRET = "lab-secret"


def granted() -> list[str]:
    """The capabilities of the speaker, read from its manifest: `NET_RAW` is `net_raw` here."""
    manifest = yaml.safe_load((ROOT / "deploy/kustomize/base/speaker.yaml").read_text())
    context = manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    return [name.lower() for name in context["capabilities"]["add"]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if not host_can_build():
        pytest.skip("needs Debian's python3 and python3-venv in place of the base image")
    made = Image(tmp_path_factory.mktemp("image"))
    try:
        made.build()
        yield made
    finally:
        made.close()


def test_the_image_holds_the_program_and_starts_as_nobody(image: Image) -> None:
    final = image.final
    assert final.user == "65534:65534"
    for words in (["--version"], ["speaker", "--help"], ["controller", "--help"]):
        argv = final.command(*final.entrypoint, *words, through=as_systemd_does([]))
        assert __version__ in (said := run(argv).stdout) or words[0] in said
    assert not final.path("/opt/clarion/bin/pip").exists()
    assert not final.path("/src").exists()


def test_the_root_is_read_only(image: Image) -> None:
    argv = image.final.command("touch", "/opt/clarion/x", through=as_kubernetes_does([]))
    assert "Read-only file system" in run(argv, check=False).stderr


class Speaking:
    """A node whose speaker is the image's, with an API of its own, and a client beside it."""

    def __init__(self, segment: Segment, image: Image) -> None:
        self.host: Namespace = segment.host(NODE, NUMBER)
        self.client: Namespace = segment.host("imgclient", NUMBER + 1)
        self.image = image
        self.api = ApiHost(self.host, "127.0.0.1")
        self.api.start_api()
        self.api.wait_api()
        self.api.start_controller()
        shutil.copy(self.api.kubeconfig, image.final.path("/etc/clarion-kubeconfig"))
        image.final.path("/etc/clarion-kubeconfig").chmod(0o644)
        for obj in configuration():
            self.api.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def start(self, privileges: Privileges, capabilities: Sequence[str]) -> Process:
        final = self.image.final
        words = ["speaker", "--node-name", NODE, "--register-node"]
        words += ["--namespace", SYSTEM_NAMESPACE, "--kubeconfig", "/etc/clarion-kubeconfig"]
        argv = final.command(*final.entrypoint, *words, through=privileges(capabilities))
        return self.host.popen(argv, log=f"{NODE}-{len(self.host.processes)}.log")

    def answers(self) -> bool:
        """Whether the node's station answers the client for both addresses."""
        ours = {self.host.mac("eth0")}
        v4, v6 = ADDRESSES
        probe = ["arping", "-r", "-c", "1", "-W", "0.3", "-i", "eth0", v4]
        arp = set(self.client.run(probe, check=False).stdout.split())
        solicit = ["ndisc6", "-q", "-m", "-r", "1", "-w", "300", v6, "eth0"]
        ndp = set(self.client.run(solicit, check=False).stdout.lower().split())
        return arp == ours and ndp == ours


def configuration() -> list[dict[str, Any]]:
    """A service with two addresses that this node announces in every way."""
    v4, v6 = ADDRESSES
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "frr", "namespace": SYSTEM_NAMESPACE},
        "stringData": {"username": "-", "password": SECRET},
    }
    passive = metallb("BGPPeer", "bird", "v1beta2", **_peer(2))
    passive["metadata"]["annotations"] = {"clarion.metallb.io/passive": "true"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80}],
        },
    }
    return [
        secret,
        metallb("IPAddressPool", "all", addresses=[f"{v4}/32", f"{v6}/128"]),
        metallb("L2Advertisement", "all"),
        metallb("BGPAdvertisement", "all"),
        metallb("BGPPeer", "frr", "v1beta2", **_peer(1), passwordSecret={"name": "frr"}),
        passive,
        service,
        *(_slice(family, address) for family, address in (("IPv4", v4), ("IPv6", v6))),
    ]


def _peer(number: int) -> dict[str, Any]:
    return {"myASN": ASN, "peerASN": 64512, "peerAddress": f"192.0.2.{number}"}


def _slice(family: str, address: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"web-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "ports": [{"port": 80}],
        "endpoints": [
            {"addresses": [address], "nodeName": NODE, "conditions": {"ready": True}},
        ],
    }


@pytest.fixture(scope="module")
def speaking(segment: Segment, image: Image) -> Speaking:
    return Speaking(segment, image)


@pytest.fixture
def routers(configured: Configured) -> tuple[Router, Router]:
    """FRR, which demands signatures (RFC 2385), and BIRD, which opens its session itself."""
    us = f"192.0.2.{NUMBER}"
    waits = Neighbor(address=us, remote_as=ASN, password=SECRET, passive=True)
    frr = configured("frr", RouterConfig(asn=64512, router_id="192.0.2.1", neighbors=(waits,)))
    opens = Neighbor(address=us, remote_as=ASN)
    bird = configured("bird", RouterConfig(asn=64512, router_id="192.0.2.2", neighbors=(opens,)))
    return frr, bird


def learned(router: Router) -> bool:
    return f"{ADDRESSES[0]}/32" in router.learned(4)


@pytest.mark.parametrize("privileges", [as_kubernetes_does, as_systemd_does])
def test_the_stated_capabilities_are_enough(
    speaking: Speaking, routers: tuple[Router, Router], privileges: Privileges
) -> None:
    speaker = speaking.start(privileges, granted())
    try:
        wait_until(speaking.answers, 30, "ARP and NDP are answered", seen=speaker.tail)
        for router in routers:
            router.wait_established(f"192.0.2.{NUMBER}")
            wait_until(partial(learned, router), 20, f"{router.name} has the route")
    finally:
        speaker.stop()


@pytest.mark.parametrize("privileges", [as_kubernetes_does, as_systemd_does])
def test_without_net_raw_no_arp_is_heard_and_bgp_goes_on(
    speaking: Speaking, routers: tuple[Router, Router], privileges: Privileges
) -> None:
    speaker = speaking.start(privileges, [name for name in granted() if name != "net_raw"])
    try:
        for router in routers:
            router.wait_established(f"192.0.2.{NUMBER}")
        wait_until(lambda: "Operation not permitted" in speaker.tail(200), 20, "it is told")
        assert not speaking.answers()
    finally:
        speaker.stop()


@pytest.mark.parametrize("privileges", [as_kubernetes_does, as_systemd_does])
def test_without_net_bind_service_nobody_can_open_a_session_with_us(
    speaking: Speaking, routers: tuple[Router, Router], privileges: Privileges
) -> None:
    frr, bird = routers
    kept = [name for name in granted() if name != "net_bind_service"]
    speaker = speaking.start(privileges, kept)
    try:
        wait_until(speaking.answers, 30, "ARP and NDP are answered", seen=speaker.tail)
        frr.wait_established(f"192.0.2.{NUMBER}")
        wait_until(lambda: "Permission denied" in speaker.tail(200), 20, "it is told")
        assert not bird.neighbors()[f"192.0.2.{NUMBER}"].established
    finally:
        speaker.stop()
