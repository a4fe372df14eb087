"""The metallb.io kinds: apply, patch, defaults, validation, admission; judged by kubectl."""

import json

import pytest

from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import CRDS

from .sides import SYSTEM as NS

WEBHOOK = "in a cluster a webhook does it: tests/cluster"


def pool(name: str, *addresses: str) -> str:
    body = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"addresses": list(addresses)},
    }
    return json.dumps(body)


def peer(version: str, name: str, **spec: object) -> str:
    body = {
        "apiVersion": f"metallb.io/{version}",
        "kind": "BGPPeer",
        "metadata": {"name": name, "namespace": NS},
        "spec": {"myASN": 64500, "peerASN": 64501, "peerAddress": "192.0.2.1", **spec},
    }
    return json.dumps(body)


def test_defaults_generation_and_printer_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pool("columns", "198.51.100.0/28"))
    made = kubectl.get("ipaddresspool", "columns", "-n", NS)
    assert made["spec"]["autoAssign"] is True
    assert made["metadata"]["generation"] == 1
    header, row = kubectl("get", "ipaddresspool", "columns", "-n", NS).splitlines()
    assert header.split("  ")[0] == "NAME"
    assert row.split() == ["columns", "true", "false", '["198.51.100.0/28"]']
    kubectl("apply", "-f", "-", stdin=pool("columns", "198.51.100.0/28"))
    unchanged = kubectl.get("ipaddresspool", "columns", "-n", NS)["metadata"]
    assert unchanged["resourceVersion"] == made["metadata"]["resourceVersion"]
    kubectl("apply", "-f", "-", stdin=pool("columns", "198.51.100.0/29"))
    status = '{"status":{"assignedIPv4":1,"assignedIPv6":0,"availableIPv4":7,"availableIPv6":0}}'
    kubectl(
        *("patch", "ipaddresspool", "columns", "-n", NS, "--type=merge"),
        *("--subresource=status", "-p", status),
    )
    changed = kubectl.get("ipaddresspool", "columns", "-n", NS)
    assert changed["metadata"]["generation"] == 2
    assert changed["status"]["availableIPv4"] == 7
    kubectl("delete", "ipaddresspool", "columns", "-n", NS)


def test_patch_kinds(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=pool("patched", "198.51.100.16/28"))
    patch = ("patch", "ipaddresspool", "patched", "-n", NS)
    kubectl(*patch, "--type=merge", "-p", '{"spec":{"autoAssign":false}}')
    operations: list[dict[str, object]] = [
        {"op": "test", "path": "/spec/autoAssign", "value": False},
        {"op": "add", "path": "/spec/addresses/-", "value": "2001:db8::/124"},
    ]
    kubectl(*patch, "--type=json", "-p", json.dumps(operations))
    spec = kubectl.get("ipaddresspool", "patched", "-n", NS)["spec"]
    assert spec["addresses"] == ["198.51.100.16/28", "2001:db8::/124"]
    operations[0]["value"] = True
    assert "the server rejected our request" in kubectl.fails(
        *patch, "--type=json", "-p", json.dumps(operations)
    )
    refused = kubectl.fails(*patch, "--type=strategic", "-p", "{}")
    assert "application/strategic-merge-patch+json" in refused
    kubectl("delete", "ipaddresspool", "patched", "-n", NS)


@pytest.mark.only("embedded", WEBHOOK)
def test_peer_in_both_versions(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=peer("v1beta2", "both", vrf="red", holdTime="30s"))
    old = kubectl.get("bgppeers.v1beta1.metallb.io", "both", "-n", NS)
    assert old["apiVersion"] == "metallb.io/v1beta1"
    assert "vrf" not in old["spec"]
    old["spec"]["holdTime"] = "60s"
    done = kubectl.run("replace", "-f", "-", stdin=json.dumps(old))
    assert done.returncode == 0, done.stderr
    assert "Warning: metallb.io/v1beta1 BGPPeer is deprecated" in done.stderr
    new = kubectl.get("bgppeers.v1beta2.metallb.io", "both", "-n", NS)
    assert (new["spec"]["holdTime"], new["spec"]["vrf"]) == ("60s", "red")
    kubectl("create", "-f", "-", stdin=peer("v1beta1", "old", peerAddress="192.0.2.2"))
    made = kubectl.get("bgppeer", "old", "-n", NS)
    assert made["apiVersion"] == "metallb.io/v1beta2"
    assert "192.0.2.2" in kubectl("get", "bgppeers", "-n", NS)
    kubectl("delete", "bgppeer", "both", "old", "-n", NS)


@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (
            peer("v1beta2", "bad", peerPort=99999, holdTime=5),
            ["spec.peerPort", "spec.holdTime", "99999"],
        ),
        (peer("v1beta2", "bad", pereAddress="192.0.2.1"), ['unknown field "spec.pereAddress"']),
        (
            json.dumps(
                {
                    "apiVersion": "metallb.io/v1beta1",
                    "kind": "BGPAdvertisement",
                    "metadata": {"name": "bad", "namespace": NS},
                    "spec": {"aggregationLength": 33, "aggregationLengthV6": 129},
                }
            ),
            ["spec.aggregationLength", "spec.aggregationLengthV6"],
        ),
    ],
)
def test_what_breaks_the_schema_is_refused(
    kubectl: Kubectl, manifest: str, wanted: list[str]
) -> None:
    refuses(kubectl, manifest, wanted)


@pytest.mark.only("embedded", WEBHOOK)
@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (pool("bad", "203.0.113.0/33"), ["spec.addresses[0]", "/33"]),
        (pool("bad", "203.0.113.9-203.0.113.1"), ["spec.addresses[0]"]),
        (
            json.dumps(
                {
                    "apiVersion": "metallb.io/v1beta1",
                    "kind": "Community",
                    "metadata": {"name": "bad", "namespace": NS},
                    "spec": {"communities": [{"name": "a", "value": "1:2:3"}]},
                }
            ),
            ["spec.communities[0]", "1:2:3"],
        ),
    ],
)
def test_bad_configuration_is_refused(kubectl: Kubectl, manifest: str, wanted: list[str]) -> None:
    refuses(kubectl, manifest, wanted)


def refuses(kubectl: Kubectl, manifest: str, wanted: list[str]) -> None:
    refused = kubectl.fails("apply", "-f", "-", stdin=manifest)
    for part in wanted:
        assert part in refused
    assert "bad" not in kubectl(
        "get", "ipaddresspools,bgppeers,communities", "-n", NS, "-o", "name"
    )


@pytest.mark.only("embedded", WEBHOOK)
def test_overlap_names_the_other_pool(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pool("first", "198.51.100.64/26"))
    refused = kubectl.fails("apply", "-f", "-", stdin=pool("second", "198.51.100.96-198.51.100.99"))
    assert "first" in refused
    assert "spec.addresses[0]" in refused
    assert "overlaps" in refused
    kubectl("delete", "ipaddresspool", "first", "-n", NS)


@pytest.mark.only("embedded", WEBHOOK)
def test_annotations_that_are_configuration_are_judged_too(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pool("annotated", "203.0.113.0/28"))
    say = ("annotate", "ipaddresspool", "-n", NS, "annotated", "--overwrite")
    refused = kubectl.fails(*say, "clarion.metallb.io/hold-down=soon")
    assert "hold-down-invalid" in refused
    kubectl(*say, "clarion.metallb.io/hold-down=10m", "example.com/note=soon")
    kubectl("delete", "ipaddresspool", "-n", NS, "annotated")


def test_order_of_creation_does_not_matter(kubectl: Kubectl) -> None:
    advertisement = {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "BGPAdvertisement",
        "metadata": {"name": "early", "namespace": NS},
        "spec": {"ipAddressPools": ["later"], "communities": ["alias-of-later"]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(advertisement))
    kubectl("delete", "bgpadvertisement", "early", "-n", NS)


def test_definitions_are_applied_harmlessly(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    kubectl("apply", "-f", str(CRDS))
    kubectl(
        *("wait", "--for=condition=Established", "--timeout=10s"),
        "crd/ipaddresspools.metallb.io",
    )


@pytest.mark.only("embedded", "a cluster takes any definition")
def test_the_set_of_kinds_is_fixed(kubectl: Kubectl) -> None:
    assert "built in" in kubectl.fails("delete", "crd", "ipaddresspools.metallb.io")
    foreign = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com"},
    }
    assert "fixed set of kinds" in kubectl.fails("create", "-f", "-", stdin=json.dumps(foreign))


def test_client_side_apply_and_diff(kubectl: Kubectl, namespace: str) -> None:
    def service(*ports: int) -> str:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"name": f"p{port}", "port": port} for port in ports],
            },
        }
        return json.dumps(body)

    kubectl("apply", "-f", "-", stdin=service(80, 443))
    before = kubectl.get("service", "web", "-n", namespace)["spec"]["ports"]
    kubectl("apply", "-f", "-", stdin=service(8080, 443))
    after = kubectl.get("service", "web", "-n", namespace)["spec"]["ports"]
    assert [port["port"] for port in after] == [8080, 443]
    assert after[1] == before[1]
    difference = kubectl.run("diff", "-f", "-", stdin=service(443))
    assert difference.returncode == 1
    assert "8080" in difference.stdout
    assert kubectl.run("diff", "-f", "-", stdin=service(8080, 443)).returncode == 0


def test_server_side_apply(kubectl: Kubectl, namespace: str) -> None:
    def service(port_name: str, **spec: object) -> str:
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"ports": [{"name": port_name, "port": 80}], **spec},
        }
        return json.dumps(body)

    apply = ("apply", "--server-side", "-f", "-")
    kubectl(*apply, stdin=service("http", type="LoadBalancer"))
    first = kubectl.get("service", "web", "-n", namespace)
    kubectl(*apply, stdin=service("http", type="LoadBalancer"))
    again = kubectl.get("service", "web", "-n", namespace)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    refused = kubectl.fails(*apply, "--field-manager=other", stdin=service("web"))
    assert '.spec.ports[port=80,protocol="TCP"].name' in refused
    assert 'conflict with "kubectl":' in refused
    kubectl(*apply, "--field-manager=other", "--force-conflicts", stdin=service("web"))
    assert kubectl.get("service", "web", "-n", namespace)["spec"]["ports"][0]["name"] == "web"
    # What a manager does not say any more goes, unless another manages it.
    kubectl(*apply, "--field-manager=other", stdin=service("web", externalIPs=["192.0.2.9"]))
    kubectl(*apply, "--field-manager=other", stdin=service("web"))
    spec = kubectl.get("service", "web", "-n", namespace)["spec"]
    assert "externalIPs" not in spec
    assert spec["type"] == "LoadBalancer"
    managers = {
        entry["manager"]: entry["operation"]
        for entry in json.loads(
            kubectl(
                *("get", "service", "web", "-n", namespace, "-o", "json", "--show-managed-fields"),
            )
        )["metadata"]["managedFields"]
    }
    assert managers == {"kubectl": "Apply", "other": "Apply"}


def test_from_client_side_to_server_side_apply(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=pool("upgrade", "198.51.100.32/28"))
    kubectl("apply", "--server-side", "-f", "-", stdin=pool("upgrade", "198.51.100.32/29"))
    spec = kubectl.get("ipaddresspool", "upgrade", "-n", NS)["spec"]
    assert spec["addresses"] == ["198.51.100.32/29"]
    assert spec["autoAssign"] is True
    kubectl("delete", "ipaddresspool", "upgrade", "-n", NS)
