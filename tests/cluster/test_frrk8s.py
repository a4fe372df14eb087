"""The back end `frr-k8s` on the real API server, with the definitions of frr-k8s itself.

The overlay `frr-k8s` is applied, and a speaker runs with its arguments and rights. Judges: the API
server, which admits what is written, and its audit log. What frr-k8s makes of such objects is in
test_frrk8s_judge.py.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from clarion.lab.nodes import clarion
from clarion.lab.process import Process, run, wait_until
from clarion.testing.apiprocess import Kubectl, free_port
from clarion.testing.engine import Engine, Request

from .deploy_kit import (
    KUSTOMIZE,
    ROOT,
    SYSTEM,
    Object,
    by_kind,
    container_of,
    frrk8s_definitions,
    kustomized,
    text_of,
)

NODE: Final = "node-a"
HOSTNAME: Final = "host-a"
NAME: Final = f"metallb-{NODE}"
CONFIGURATION: Final = ("frrconfiguration", NAME, "-n", SYSTEM)
GROUP: Final = "frrk8s.metallb.io"
GOLDEN: Final = ROOT / "tests" / "golden" / "frrk8s"


@pytest.fixture(scope="module")
def definitions() -> list[Path]:
    return frrk8s_definitions()


class Speaker:
    """A speaker with the arguments and the account of the overlay."""

    def __init__(self, engine: Engine, items: list[Object], log: Path) -> None:
        self._port = free_port()
        changed = {"--listen-http": f"127.0.0.1:{self._port}"}
        words = []
        for word in container_of(by_kind(items, "DaemonSet")[0])["args"]:
            flag, equals, value = word.partition("=")
            value = value.replace("$(NAMESPACE)", SYSTEM).replace("$(NODE_NAME)", NODE)
            words.append(f"{flag}{equals}{changed.get(flag, value)}")
        account = engine.service_account_kubeconfig(
            SYSTEM, "speaker", engine.directory / "speaker.kubeconfig"
        )
        # Nothing here is about layer 2, and this runs in the machine's own network.
        words += ["--kubeconfig", str(account), "--l2-exclude-interface=.*"]
        self._command, self._log = clarion(*words), log
        self._process: Process | None = None

    def start(self) -> None:
        """Start it."""
        self._process = Process(self._command, log=self._log)

    def stop(self) -> None:
        """End it as a Pod is ended."""
        if self._process is not None:
            assert self._process.stop() == 0, self.said()
        self._process = None

    def said(self) -> str:
        """The end of its log."""
        return self._process.tail(12) if self._process else ""

    def ask(self, path: str) -> str:
        """What it serves, with whatever status; nothing while it does not listen."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as found:
                return str(found.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def session(self) -> dict[str, Any]:
        """What it shows of the session with the peer."""
        shown = json.loads(self.ask("/debug/snapshot") or "{}")
        found: dict[str, Any] = shown.get("sessions", {}).get("router", {})
        return found


class Bed:
    """A cluster with the overlay applied, and a speaker of it."""

    def __init__(self, engine: Engine, log: Path) -> None:
        self.engine = engine
        self.kubectl: Kubectl = engine.kubectl
        self.items = kustomized(engine.kubectl, KUSTOMIZE / "frr-k8s")
        # No controller runs here to answer webhooks.
        applied = [i for i in self.items if i["kind"] != "ValidatingWebhookConfiguration"]
        self.apply(*applied)
        self.speaker = Speaker(engine, self.items, log)

    def apply(self, *items: Object) -> None:
        """Apply objects; the API server must know every field."""
        words = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-")
        self.kubectl(*words, stdin=text_of(items))

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Wait for what the speaker is about to do."""
        wait_until(lambda: bool(condition()), 40, what, seen=self.speaker.said)

    def found(self) -> Object | None:
        """The FRRConfiguration; None: there is none."""
        done = self.kubectl.run("get", *CONFIGURATION, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def prefixes(self) -> list[str]:
        """What the neighbour may be told by the FRRConfiguration."""
        found = self.found()
        if found is None:
            return []
        neighbor = found["spec"]["bgp"]["routers"][0]["neighbors"][0]
        allowed: list[str] = neighbor["toAdvertise"]["allowed"].get("prefixes", [])
        return allowed

    def writes(self) -> list[Request]:
        """What the speaker asked to be written of FRRConfigurations."""
        user = f"system:serviceaccount:{SYSTEM}:speaker"
        return [
            request
            for request in self.engine.requests(user)
            if request.resource == "frrconfigurations" and request.verb not in ("list", "watch")
        ]


@pytest.fixture(scope="module")
def bed(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    del engine  # asked for because it says why there is none
    directory = tmp_path_factory.mktemp("frrk8s")
    with Engine(directory, controllers=("serviceaccount-controller",)) as made:
        bed = Bed(made, directory / "speaker.log")
        try:
            yield bed
        finally:
            bed.speaker.stop()


def in_force(bed: Bed, wanted: Object) -> bool:
    """Whether the FRRConfiguration says again what it said."""
    found = bed.found()
    return found is not None and bool(found["spec"] == wanted["spec"])


def metallb(kind: str, name: str, version: str = "v1beta1", **spec: Any) -> Object:
    meta = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": f"metallb.io/{version}", "kind": kind, "metadata": meta, "spec": spec}


PEER: Final = metallb(
    "BGPPeer",
    "router",
    "v1beta2",
    myASN=64500,
    peerASN=64512,
    peerAddress="2001:db8::1",
    sourceAddress="2001:db8::10",
    passwordSecret={"name": "bgp"},
    dualStackAddressFamily=True,
)
OBJECTS: Final = (
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": HOSTNAME}},
    },
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/basic-auth",
        "metadata": {"name": "bgp", "namespace": SYSTEM},
        "stringData": {"username": "-", "password": "lab-secret"},
    },
    metallb("IPAddressPool", "all", addresses=["203.0.113.0/28"]),
    metallb("BGPAdvertisement", "all", communities=["64500:1"]),
    PEER,
)


def give(bed: Bed, name: str, address: str) -> None:
    """A service with an address and an endpoint that is ready."""
    labels = {"kubernetes.io/service-name": name}
    bed.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["198.51.100.9"], "conditions": {"ready": True}}],
        },
    )
    status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
    words = ("--subresource=status", "--type=merge", "-p", status)
    bed.kubectl("patch", "service", name, *words)


@pytest.fixture(scope="module")
def waiting(bed: Bed) -> str:
    """What the speaker says of itself while frr-k8s is not installed."""
    bed.apply(*OBJECTS)
    give(bed, "web", "203.0.113.1")
    bed.speaker.start()
    bed.until("it says what lacks", lambda: "FRRConfiguration" in bed.speaker.ask("/readyz"))
    bed.until(
        "the rest goes on", lambda: bed.kubectl.get("configurationstates", "-n", SYSTEM)["items"]
    )
    return bed.speaker.ask("/readyz")


@pytest.fixture(scope="module")
def announced(bed: Bed, waiting: str, definitions: list[Path]) -> Object:
    """The FRRConfiguration, once frr-k8s is installed."""
    del waiting
    bed.engine.install(*definitions)
    bed.until("the address is told", lambda: bed.prefixes() == ["203.0.113.1/32"])
    found = bed.found()
    assert found is not None
    return found


def test_without_frr_k8s_it_says_so_and_what_to_do(waiting: str) -> None:
    assert "install frr-k8s" in waiting


def test_the_object_is_that_of_the_node(announced: Object) -> None:
    spec = announced["spec"]
    assert spec["nodeSelector"] == {"matchLabels": {"kubernetes.io/hostname": HOSTNAME}}
    (router,) = spec["bgp"]["routers"]
    assert (router["asn"], router["prefixes"]) == (64500, ["203.0.113.1/32"])
    (neighbor,) = router["neighbors"]
    assert neighbor["sourceaddress"] == "2001:db8::10"
    assert neighbor["passwordSecret"] == {"name": "bgp", "namespace": SYSTEM}
    assert "lab-secret" not in json.dumps(announced)
    told = [{"community": "64500:1", "prefixes": ["203.0.113.1/32"]}]
    assert neighbor["toAdvertise"]["withCommunity"] == told


@pytest.mark.parametrize("case", sorted(path.stem for path in GOLDEN.glob("*.yaml")))
def test_the_golden_files_are_admitted(bed: Bed, announced: Object, case: str) -> None:
    del announced  # the definitions
    text = golden(case)
    words = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
    bed.kubectl(*words, stdin=text)
    unknown = text.replace("spec:", "spec:\n  x: 1")
    assert 'unknown field "spec.x"' in bed.kubectl.fails(*words, stdin=unknown)


def golden(case: str) -> str:
    """A golden file as an object beside that of the speaker."""
    text = (GOLDEN / f"{case}.yaml").read_text()
    return text.replace("frr-k8s-system", SYSTEM).replace(f"name: {NAME}", "name: golden")


def test_what_the_checks_hold_back_would_be_refused(bed: Bed, announced: Object) -> None:
    """A port above 16384, for which the rules of this back end leave a peer out."""
    del announced
    words = ("create", "--dry-run=server", "-f", "-")
    allowed, above = (golden("one").replace("179", str(port)) for port in (16384, 16385))
    bed.kubectl(*words, stdin=allowed)
    assert "less than or equal to 16384" in bed.kubectl.fails(*words, stdin=above)


def test_services_that_come_and_go_change_it(bed: Bed, announced: Object) -> None:
    give(bed, "other", "203.0.113.2")
    both = ["203.0.113.1/32", "203.0.113.2/32"]
    bed.until("both are told", lambda: bed.prefixes() == both)
    bed.kubectl("delete", "service", "other")
    bed.until("one is told", lambda: in_force(bed, announced))


def test_what_somebody_changes_is_put_back(bed: Bed, announced: Object) -> None:
    labelled = json.dumps({"metadata": {"labels": {"of": "others"}}})
    edits: tuple[Object, ...] = (
        {"spec": {"raw": {"rawConfig": "router bgp 1"}}},
        {"spec": {"bgp": {"routers": []}}},
        {"spec": {"nodeSelector": {"matchLabels": {"zone": "east"}}}},
    )
    for edit in edits:
        bed.kubectl("patch", *CONFIGURATION, "--type=merge", "-p", labelled)
        bed.kubectl("patch", *CONFIGURATION, "--type=merge", "-p", json.dumps(edit))
        bed.until("it is put back", lambda: in_force(bed, announced))
    found = bed.found()
    assert found is not None
    assert found["metadata"]["labels"] == {"of": "others"}


def test_what_somebody_deletes_is_made_again(bed: Bed, announced: Object) -> None:
    bed.kubectl("delete", *CONFIGURATION)
    bed.until("it is there again", lambda: in_force(bed, announced))


def test_a_restart_writes_nothing_and_loses_nothing(bed: Bed, announced: Object) -> None:
    before, writes = bed.found(), len(bed.writes())
    assert before is not None
    assert before["spec"] == announced["spec"]
    bed.speaker.stop()
    assert bed.found() == before
    bed.speaker.start()
    bed.until("all is in force", lambda: bed.speaker.session().get("inForce"))
    bed.until("it is ready", lambda: "ok" in bed.speaker.ask("/readyz"))
    assert (bed.found(), len(bed.writes())) == (before, writes)


def test_it_shows_how_the_session_stands(bed: Bed, announced: Object) -> None:
    del announced
    peer = "2001-0db8-0000-0000-0000-0000-0000-0001"
    labels = {f"{GROUP}/node": NODE, f"{GROUP}/peer": peer, f"{GROUP}/vrf": ""}
    state = {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "BGPSessionState",
        "metadata": {"name": "node-a-x7k", "namespace": SYSTEM, "labels": labels},
    }
    bed.apply(state)

    def tell(bgp: str) -> None:
        status = {"node": NODE, "peer": peer, "vrf": "", "bgpStatus": bgp, "bfdStatus": "N/A"}
        where = ("bgpsessionstate", "node-a-x7k", "-n", SYSTEM, "--subresource=status")
        patch = json.dumps({"status": status})
        bed.kubectl("patch", *where, "--type=merge", "-p", patch)

    def answer(*words: str) -> str:
        return run(clarion(*words), env={"KUBECONFIG": str(bed.engine.kubeconfig)}).stdout

    def shown(word: str) -> bool:
        there = bed.speaker.session().get("state") == word
        return there and f"router {word}" in answer("status")

    for word in ("Active", "Established"):
        tell(word)
        bed.until("it is shown", partial(shown, word))
        told = answer("explain", "peer", "router")
        assert {"Active": "router: Active on node-a", "Established": "router: up on node-a"}[
            word
        ] in told
    up = 'metallb_bgp_session_up{peer="[2001:db8::1]:179",vrf="default"} 1.0'
    assert up in bed.speaker.ask("/metrics")


def test_without_peers_it_goes(bed: Bed, announced: Object) -> None:
    bed.kubectl("delete", "bgppeer", "router", "-n", SYSTEM)
    bed.until("it is gone", lambda: bed.found() is None)
    bed.apply(PEER)
    bed.until("it is there again", lambda: in_force(bed, announced))


def test_a_peer_that_went_while_no_speaker_ran_is_not_left_behind(
    bed: Bed, announced: Object
) -> None:
    del announced
    bed.speaker.stop()
    bed.kubectl("delete", "bgppeer", "router", "-n", SYSTEM)
    assert bed.found() is not None
    bed.speaker.start()
    bed.until("it is gone", lambda: bed.found() is None)
    bed.apply(PEER)
    bed.until("it is there again", lambda: bed.prefixes() == ["203.0.113.1/32"])


def test_nothing_is_refused_and_each_right_is_used(bed: Bed, announced: Object) -> None:
    """Those that this overlay adds; the others are those of `native` (test_rbac.py)."""
    del announced
    user = f"system:serviceaccount:{SYSTEM}:speaker"
    asked = [request for request in bed.engine.requests(user) if request.resource]
    assert not [request for request in asked if not request.allowed or request.code == 403]
    (role,) = (i for i in by_kind(bed.items, "Role") if i["metadata"]["name"] == "speaker-frr-k8s")
    granted = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {(one.resource, one.verb) for one in asked if one.group == GROUP}


def test_without_rights_it_says_which(bed: Bed, announced: Object) -> None:
    binding = ("rolebinding", "speaker-frr-k8s", "-n", SYSTEM)
    bed.kubectl("delete", *binding)
    account = f"--as=system:serviceaccount:{SYSTEM}:speaker"
    question = ("auth", "can-i", "patch", f"frrconfigurations.{GROUP}", "-n", SYSTEM, account)
    bed.until("the right is gone", lambda: bed.kubectl.run(*question).stdout.strip() == "no")
    bed.kubectl("patch", *CONFIGURATION, "--type=merge", "-p", '{"spec": {"bgp": {"routers": []}}}')
    remedy = f"let the speaker read and write frrconfigurations in {SYSTEM}"
    bed.until("it says so", lambda: remedy in bed.speaker.ask("/readyz"))
    bed.apply(*(item for item in bed.items if item["metadata"]["name"] == binding[1]))
    bed.until("it is written", lambda: in_force(bed, announced))
    bed.until("it is ready", lambda: "ok" in bed.speaker.ask("/readyz"))


def test_definitions_that_are_deleted_and_come_back(
    bed: Bed, announced: Object, definitions: list[Path]
) -> None:
    bed.kubectl("delete", "crd", f"frrconfigurations.{GROUP}", f"bgpsessionstates.{GROUP}")
    bed.until("it says so", lambda: "install frr-k8s" in bed.speaker.ask("/readyz"))
    bed.engine.install(*definitions)
    bed.until("it is written", lambda: in_force(bed, announced))
    bed.until("it is ready", lambda: "ok" in bed.speaker.ask("/readyz"))
