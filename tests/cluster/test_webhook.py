"""The webhooks, asked by the real API server: refusals, warnings, conversion, certificates."""

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from clarion.daemons.admission import JUDGED
from clarion.daemons.webhooks import validation_path
from clarion.lab.process import wait_until
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject
from clarion.model.metallb import BFDProfile
from clarion.testing.apiprocess import Kubectl, free_port
from clarion.testing.engine import Engine

from .controller_kit import SYSTEM, ControllerProcess, need_engine

CONFIGURATION = "metallb-webhook-configuration"
PEERS = "bgppeers.metallb.io"
SECRET = "metallb-webhook-cert"


def document(kind: str, name: str, spec: dict[str, Any], version: str = "v1beta1") -> str:
    meta = {"name": name, "namespace": SYSTEM}
    api = f"metallb.io/{version}"
    return yaml.safe_dump({"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec})


def pool(name: str, *addresses: str) -> str:
    return document("IPAddressPool", name, {"addresses": list(addresses)})


class Cluster:
    """A control plane of its own: its definition of BGPPeer is converted by the webhook."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.kubectl: Kubectl = engine.kubectl
        self.directory = directory
        self.port = free_port()
        self.kubectl("create", "namespace", SYSTEM)
        self.controller = self.replica("controller", self.port)
        self.register("Fail")
        self.kubectl(
            *("patch", "crd", PEERS, "--type=merge", "-p"),
            json.dumps({"spec": {"conversion": self.conversion()}}),
        )

    def replica(self, name: str, port: int) -> ControllerProcess:
        listen = ("--webhook-listen", f"127.0.0.1:{port}")
        return ControllerProcess(self.engine, self.directory, name, *listen)

    def conversion(self) -> dict[str, Any]:
        client = {"url": f"https://127.0.0.1:{self.port}/convert"}
        versions = ["v1"]
        webhook = {"clientConfig": client, "conversionReviewVersions": versions}
        return {"strategy": "Webhook", "webhook": webhook}

    def register(self, failure_policy: str) -> None:
        """Write the configuration as MetalLB's manifests have it, found by its address."""
        hooks = [self.hook(of, ["CREATE", "UPDATE"], failure_policy) for of in JUDGED]
        # Deletions wait for nobody.
        hooks.append(self.hook(BFDProfile, ["DELETE"], "Ignore"))
        self.kubectl(
            "apply",
            "-f",
            "-",
            stdin=yaml.safe_dump(
                {
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": "ValidatingWebhookConfiguration",
                    "metadata": {"name": CONFIGURATION},
                    "webhooks": hooks,
                }
            ),
        )

    def hook(
        self, of: type[KubeObject], operations: list[str], failure_policy: str
    ) -> dict[str, Any]:
        kind = kind_of(of)
        rule = {
            "apiGroups": [kind.group],
            "apiVersions": [kind.version],
            "operations": operations,
            "resources": [kind.plural],
        }
        what = "deletion" if operations == ["DELETE"] else "validation"
        return {
            "name": f"{kind.singular}{what}webhook.metallb.io",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{validation_path(of)}"},
            "failurePolicy": failure_policy,
            "rules": [rule],
            "sideEffects": "None",
        }

    def bundles(self) -> set[str]:
        """What API servers are told to trust, everywhere where they are told."""
        hooks = self.kubectl.get("validatingwebhookconfiguration", CONFIGURATION)["webhooks"]
        found = {hook["clientConfig"].get("caBundle", "") for hook in hooks}
        conversion = self.kubectl.get("crd", PEERS)["spec"]["conversion"]
        return found | {conversion["webhook"]["clientConfig"].get("caBundle", "")}

    def published(self) -> bool:
        """Whether all are told of the same, and of something."""
        bundles = self.bundles()
        return len(bundles) == 1 and "" not in bundles

    def asked(self) -> bool:
        """Whether the API server reaches the webhook by now."""
        done = self.kubectl.run(
            *("apply", "--dry-run=server", "-f", "-"), stdin=pool("asked", "203.0.113.0/32")
        )
        return done.returncode == 0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_engine()
    directory = tmp_path_factory.mktemp("webhook")
    with Engine(directory) as engine:
        engine.install()
        made = Cluster(engine, directory)
        with made.controller:
            yield made


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    wait_until(
        cluster.published, 30, "the authority is published", seen=cluster.controller.process.tail
    )
    wait_until(cluster.asked, 30, "the API server asks", seen=cluster.controller.process.tail)
    yield cluster.kubectl
    for of in (*JUDGED[::-1], *JUDGED[::-1]):
        cluster.kubectl.run("delete", kind_of(of).plural, "--all", "-n", SYSTEM)


def test_a_bad_object_is_refused_with_all_its_problems(kubectl: Kubectl) -> None:
    said = kubectl.fails("apply", "-f", "-", stdin=pool("bad", "192.0.2.9-192.0.2.1", "hello"))
    assert "spec.addresses[0]" in said
    assert "spec.addresses[1]" in said
    said = kubectl.fails(
        *("apply", "-f", "-"),
        stdin=document("BGPPeer", "bad", {"myASN": 0, "peerASN": 0}, "v1beta2"),
    )
    for code in ("asn-missing", "peer-asn-missing", "peer-address-missing"):
        assert f"[{code}]" in said


def test_of_two_pools_in_one_file_that_overlap_the_second_is_refused(kubectl: Kubectl) -> None:
    both = f"{pool('one', '192.0.2.0/28')}---\n{pool('two', '192.0.2.8/29')}"
    said = kubectl.fails("apply", "-f", "-", stdin=both)
    assert "[pool-overlap]" in said
    assert "IPAddressPool metallb-system/one" in said
    assert [item["metadata"]["name"] for item in kubectl.get("ipaddresspools", "-A")["items"]] == [
        "one"
    ]
    # What was deleted a moment ago stands in nobody's way.
    kubectl("delete", "ipaddresspool", "one", "-n", SYSTEM)
    kubectl("apply", "-f", "-", stdin=pool("two", "192.0.2.8/29"))


def test_a_good_object_is_taken_and_warned_of(kubectl: Kubectl) -> None:
    done = kubectl.run("apply", "-f", "-", stdin=pool("good", "192.0.2.0/28"))
    assert done.returncode == 0, done.stderr
    assert "Warning: " in done.stderr
    assert "[pool-not-advertised]" in done.stderr
    peer = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", "bfdProfile": "later"}
    done = kubectl.run("apply", "-f", "-", stdin=document("BGPPeer", "good", peer, "v1beta2"))
    assert done.returncode == 0, done.stderr
    assert "[bfd-profile-missing]" in done.stderr


def test_a_profile_is_not_deleted_under_a_peer_and_everything_else_is(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=document("BFDProfile", "fast", {"detectMultiplier": 3}))
    peer = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", "bfdProfile": "fast"}
    kubectl("apply", "-f", "-", stdin=document("BGPPeer", "tor", peer, "v1beta2"))
    assert "BGP peers use it: tor" in kubectl.fails("delete", "bfdprofile", "fast", "-n", SYSTEM)
    # In one command, one right after the other: memory may still hold the peer.
    kubectl("delete", "bgppeer/tor", "bfdprofile/fast", "-n", SYSTEM)


def test_what_was_stored_before_is_refused_only_when_its_configuration_changes(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    cluster.register("Ignore")
    cluster.controller.stop()
    for name in ("one", "two", "gone"):  # nobody is asked: all are stored
        kubectl("apply", "-f", "-", stdin=pool(name, "192.0.2.0/28"))
    kubectl("apply", "-f", "-", stdin=document("BFDProfile", "gone", {}))
    cluster.register("Fail")
    said = kubectl.fails("apply", "-f", "-", stdin=pool("three", "192.0.2.32/28"))
    assert "failed calling webhook" in said
    kubectl("delete", "ipaddresspool/gone", "bfdprofile/gone", "-n", SYSTEM)
    cluster.controller.start()
    wait_until(cluster.asked, 30, "the API server asks", seen=cluster.controller.process.tail)
    kubectl("label", "ipaddresspool", "two", "-n", SYSTEM, "team=a")
    kubectl("annotate", "ipaddresspool", "two", "-n", SYSTEM, "example.com/a=b")
    said = kubectl.fails("apply", "-f", "-", stdin=pool("two", "192.0.2.0/29"))
    assert "[pool-overlap]" in said
    kubectl("delete", "ipaddresspool", "two", "-n", SYSTEM)


# --- conversion -----------------------------------------------------------------------------

NEW_ONLY = {"vrf": "red", "connectTime": "10s", "enableGracefulRestart": True}


def test_a_peer_is_seen_in_both_versions_and_loses_nothing(kubectl: Kubectl) -> None:
    old = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", "peerPort": 1179}
    kubectl("apply", "-f", "-", stdin=document("BGPPeer", "old", old))
    new = {"myASN": 64500, "peerASN": 64502, "peerAddress": "192.0.2.2", **NEW_ONLY}
    kubectl("apply", "-f", "-", stdin=document("BGPPeer", "new", new, "v1beta2"))
    stored = kubectl.get("bgppeers.v1beta2.metallb.io", "old", "-n", SYSTEM)["spec"]
    assert old.items() <= stored.items()
    # An absent timer stays absent: a zero would mean a session without keepalives.
    assert not {"holdTime", "keepaliveTime"} & stored.keys()
    # Written in the older version by somebody who knows no other, then read in the newer one.
    seen = kubectl("get", "bgppeers.v1beta1.metallb.io", "new", "-n", SYSTEM, "-o", "yaml")
    assert not NEW_ONLY.keys() & yaml.safe_load(seen)["spec"].keys()
    kubectl("replace", "-f", "-", stdin=seen.replace("64502", "64503"))
    back = kubectl.get("bgppeers.v1beta2.metallb.io", "new", "-n", SYSTEM)
    assert back["spec"].items() >= {**new, "peerASN": 64503}.items()
    assert "clarion.metallb.io/conversion-data" not in back["metadata"].get("annotations", {})
    listed = kubectl.get("bgppeers.v1beta1.metallb.io", "-n", SYSTEM)["items"]
    assert {item["apiVersion"] for item in listed} == {"metallb.io/v1beta1"}
    # The older version is judged like the newer one (matchPolicy Equivalent).
    bad = document("BGPPeer", "bad", {"myASN": 0, "peerASN": 0, "peerAddress": "192.0.2.9"})
    assert "[asn-missing]" in kubectl.fails("apply", "-f", "-", stdin=bad)


def test_peers_stored_in_the_older_version_are_migrated(cluster: Cluster, kubectl: Kubectl) -> None:
    def store_in(wanted: str) -> None:
        versions = kubectl.get("crd", PEERS)["spec"]["versions"]
        patch = [
            {"op": "replace", "path": f"/spec/versions/{i}/storage", "value": row["name"] == wanted}
            for i, row in enumerate(versions)
        ]
        kubectl("patch", "crd", PEERS, "--type=json", "-p", json.dumps(patch))

    def stored_versions() -> list[str]:
        found: list[str] = kubectl.get("crd", PEERS)["status"]["storedVersions"]
        return found

    store_in("v1beta1")
    wait_until(lambda: "v1beta1" in stored_versions(), 10, "the older version is stored")
    spec = {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", **NEW_ONLY}
    kubectl("apply", "-f", "-", stdin=document("BGPPeer", "tor", spec, "v1beta2"))
    store_in("v1beta2")
    everything = kubectl("get", PEERS, "-n", SYSTEM, "-o", "yaml")
    kubectl("replace", "-f", "-", stdin=everything)
    kubectl(
        *("patch", "crd", PEERS, "--subresource=status", "--type=merge", "-p"),
        json.dumps({"status": {"storedVersions": ["v1beta2"]}}),
    )
    cluster.controller.stop()  # what is stored in the version asked for needs no conversion
    try:
        found = kubectl.get("bgppeers.v1beta2.metallb.io", "tor", "-n", SYSTEM)["spec"]
        assert found.items() >= spec.items()
        assert "conversion webhook" in kubectl.fails(
            "get", "bgppeers.v1beta1.metallb.io", "tor", "-n", SYSTEM
        )
    finally:
        cluster.controller.start()


# --- certificates ---------------------------------------------------------------------------


def shown(port: int, bundle: str) -> x509.Certificate:
    """The certificate that a replica shows to who trusts this bundle."""
    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        certificate = secured.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate)


def issuer(certificate: x509.Certificate) -> bytes:
    """Which key signed it."""
    found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert found.value.key_identifier is not None
    return found.value.key_identifier


def test_a_bundle_that_somebody_overwrites_is_written_again(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    before = cluster.bundles()
    hooks = [{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]
    kubectl(
        *("patch", "validatingwebhookconfiguration", CONFIGURATION, "--type=json", "-p"),
        json.dumps(hooks),
    )
    kubectl(
        *("patch", "crd", PEERS, "--type=merge", "-p"),
        json.dumps({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": None}}}}}),
    )
    wait_until(lambda: cluster.bundles() == before, 10, "the bundles are back")
    url = kubectl.get("validatingwebhookconfiguration", CONFIGURATION)["webhooks"][0]
    assert url["clientConfig"]["url"].startswith("https://127.0.0.1:"), "the rest of it stays"


def test_authorities_are_replaced_while_objects_are_applied_and_nothing_fails(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    (bundle,) = cluster.bundles()
    before = issuer(shown(cluster.port, bundle))
    port = free_port()
    with cluster.replica("second", port) as second:
        wait_until(lambda: not second.leads, 10, "the second follows")
        assert issuer(shown(port, bundle)) == before, "all replicas show the same"
        kubectl("delete", "secret", SECRET, "-n", SYSTEM)
        steps: set[tuple[int, bool]] = set()  # authorities that are trusted, and who shows the new

        def renewed() -> bool:
            addresses = f"192.0.2.{len(applied)}/32"
            kubectl("apply", "-f", "-", stdin=pool("busy", addresses))
            applied.append(addresses)
            (now,) = cluster.bundles()
            new = [issuer(shown(at, now)) != before for at in (cluster.port, port)]
            steps.update((base64.b64decode(now).count(b"BEGIN CERT"), one) for one in new)
            return all(new)

        applied: list[str] = []
        wait_until(renewed, 120, "both show a certificate of the new authority", interval=0)
        assert renewed()
        assert steps >= {(2, False), (2, True)}, "objects were applied at every step"
        found = kubectl.get("secret", SECRET, "-n", SYSTEM)["data"]
        assert base64.b64decode(found["ca.crt"]).count(b"BEGIN CERTIFICATE") == 2
        # Whoever leads next goes on with what the first one made.
        cluster.controller.stop()
        wait_until(lambda: second.leads, 10, "the second leads")
        assert kubectl.get("secret", SECRET, "-n", SYSTEM)["data"] == found
        cluster.controller.start()
