"""Kubernetes' own kinds, judged by kubectl."""

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from clarion.testing.apiprocess import Kubectl

from .sides import Side

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, name: http}, {port: 443, name: https, targetPort: web}]
"""

NODE = """
apiVersion: v1
kind: Node
metadata: {name: node-a, labels: {node-role.kubernetes.io/worker: "", rack: r1}}
"""


def test_discovery_lists_every_kind(kubectl: Kubectl) -> None:
    names = kubectl("api-resources", "-o", "name").split()
    for name in (
        *("services", "nodes", "namespaces", "secrets", "configmaps", "events", "pods"),
        *("endpointslices.discovery.k8s.io", "leases.coordination.k8s.io"),
        *("customresourcedefinitions.apiextensions.k8s.io", "ipaddresspools.metallb.io"),
        *("bgppeers.metallb.io", "servicel2statuses.metallb.io"),
    ):
        assert name in names
    wide = kubectl("api-resources", "-o", "wide", "--api-group", "metallb.io")
    assert "metallb.io/v1beta2" in wide
    assert "deletecollection" in wide
    versions = kubectl("api-versions").split()
    assert {"v1", "metallb.io/v1beta1", "metallb.io/v1beta2"} <= set(versions)
    version = json.loads(kubectl("version", "-o", "json"))["serverVersion"]
    assert version["gitVersion"].startswith(f"v1.{version['minor']}.")


def test_service_gets_what_a_cluster_gives(api: Side, kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-n", namespace, "-f", "-", stdin=SERVICE)
    spec = kubectl.get("service", "web", "-n", namespace)["spec"]
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    assert ip_address(spec["clusterIP"]) in api.cluster_ips
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["ipFamilyPolicy"] == "SingleStack"
    assert spec["sessionAffinity"] == "None"
    assert (spec["externalTrafficPolicy"], spec["internalTrafficPolicy"]) == ("Cluster", "Cluster")
    assert spec["allocateLoadBalancerNodePorts"] is True
    http, https = spec["ports"]
    assert http["targetPort"] == 80
    assert https["targetPort"] == "web"
    assert all(30000 <= port["nodePort"] <= 32767 for port in spec["ports"])
    assert http["protocol"] == "TCP"

    table = kubectl("get", "service", "web", "-n", namespace, "-o", "wide").splitlines()
    assert table[0].split() == [
        *("NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"),
    ]
    assert table[1].split()[:4] == ["web", "LoadBalancer", spec["clusterIP"], "<pending>"]
    described = kubectl("describe", "service", "web", "-n", namespace)
    assert f"80:{http['nodePort']}" in table[1]
    assert "External Traffic Policy:  Cluster" in described


def test_status_is_written_only_through_its_subresource(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-n", namespace, "-f", "-", stdin=SERVICE)
    status = '{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.7"}]}}}'
    patch = ("patch", "service", "web", "-n", namespace, "--type=merge", "-p", status)
    kubectl(*patch)
    jsonpath = "jsonpath={.status.loadBalancer.ingress[0].ip}"
    assert kubectl("get", "service", "web", "-n", namespace, "-o", jsonpath) == ""
    kubectl(*patch, "--subresource=status")
    assert kubectl("get", "service", "web", "-n", namespace, "-o", jsonpath) == "198.51.100.7"
    kubectl(
        *("wait", "service/web", "-n", namespace, "--timeout=10s"),
        "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=198.51.100.7",
    )
    # A service that is no load balancer any more loses its addresses.
    kubectl("patch", "service", "web", "-n", namespace, "-p", '{"spec":{"type":"ClusterIP"}}')
    left = kubectl.get("service", "web", "-n", namespace)
    assert left["status"] == {"loadBalancer": {}}
    assert "nodePort" not in left["spec"]["ports"][0]
    assert "allocateLoadBalancerNodePorts" not in left["spec"]


def test_create_label_annotate_replace_delete(kubectl: Kubectl, namespace: str) -> None:
    in_namespace = ("-n", namespace)
    kubectl("create", "configmap", "cm", "--from-literal=a=1", *in_namespace)
    kubectl("create", "secret", "generic", "s", "--from-literal=password=x", *in_namespace)
    kubectl("create", "service", "loadbalancer", "lb", "--tcp=80:8080", *in_namespace)
    kubectl("label", "configmap", "cm", "tier=front", *in_namespace)
    kubectl("annotate", "configmap", "cm", "note=hello there", *in_namespace)
    assert kubectl("get", "configmap", "-l", "tier in (front,back)", "-o", "name", *in_namespace)
    assert not kubectl("get", "configmap", "-l", "tier!=front", "-o", "name", *in_namespace)
    assert kubectl(
        *("get", "secret", "-o", "name", *in_namespace, "--field-selector=type=Opaque")
    ).split() == ["secret/s"]
    assert kubectl.get("secret", "s", *in_namespace)["data"] == {"password": "eA=="}
    config = kubectl.get("configmap", "cm", *in_namespace)
    config["data"]["a"] = "2"
    kubectl("replace", "-f", "-", stdin=json.dumps(config))
    refused = kubectl.fails("replace", "-f", "-", stdin=json.dumps(config))
    assert "the object has been modified" in refused
    assert kubectl("get", "cm", "cm", "-o", "jsonpath={.data.a}", *in_namespace) == "2"
    kubectl("label", "configmap", "cm", "tier-", *in_namespace)
    assert "labels" not in kubectl.get("configmap", "cm", *in_namespace)["metadata"]
    kubectl("delete", "configmap,secret,service", "--all", *in_namespace)
    assert kubectl.get("configmap,secret,service", *in_namespace)["items"] == []
    assert "NotFound" in kubectl.fails("get", "configmap", "cm", *in_namespace)


def test_edit(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    kubectl("create", "configmap", "cm", "--from-literal=a=before", "-n", namespace)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/before/after/ "$1"\n')
    editor.chmod(0o755)
    done = kubectl.run("edit", "configmap", "cm", "-n", namespace, env={"KUBE_EDITOR": str(editor)})
    assert done.returncode == 0, done.stderr
    assert kubectl("get", "cm", "cm", "-n", namespace, "-o", "jsonpath={.data.a}") == "after"


def test_dry_run_leaves_no_trace(kubectl: Kubectl, namespace: str) -> None:
    shown = json.loads(
        kubectl(
            *("create", "-n", namespace, "-f", "-", "--dry-run=server", "-o", "json"),
            stdin=SERVICE,
        )
    )
    assert shown["spec"]["clusterIP"]
    assert shown["metadata"]["uid"]
    assert "NotFound" in kubectl.fails("get", "service", "web", "-n", namespace)
    kubectl("create", "configmap", "cm", "-n", namespace)
    kubectl("delete", "configmap", "cm", "-n", namespace, "--dry-run=server")
    kubectl("get", "configmap", "cm", "-n", namespace)


def test_node_is_cluster_wide_and_keeps_its_status(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=NODE)
    status = {
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}],
        }
    }
    kubectl("patch", "node", "node-a", "--subresource=status", "-p", json.dumps(status))
    line = kubectl("get", "node", "node-a", "-o", "wide").splitlines()[1].split()
    assert line[:3] == ["node-a", "Ready", "worker"]
    assert "192.0.2.10" in line
    kubectl("cordon", "node-a")
    assert "SchedulingDisabled" in kubectl("get", "nodes")
    assert "Ready" in kubectl("describe", "node", "node-a")
    kubectl("delete", "node", "node-a")


def test_events_by_what_they_are_about(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "-n", namespace, "-f", "-", stdin=SERVICE)
    uid = kubectl.get("service", "web", "-n", namespace)["metadata"]["uid"]
    event = f"""
apiVersion: v1
kind: Event
metadata: {{generateName: web., namespace: {namespace}}}
involvedObject: {{kind: Service, name: web, namespace: {namespace}, uid: {uid}}}
reason: IPAllocated
message: Assigned IP ["198.51.100.7"]
type: Normal
source: {{component: metallb-controller}}
count: 1
firstTimestamp: "2024-01-01T00:00:00Z"
lastTimestamp: "2024-01-01T00:00:00Z"
"""
    kubectl("create", "-f", "-", stdin=event)
    about = "--field-selector=involvedObject.name=web,involvedObject.kind=Service,type=Normal"
    assert "IPAllocated" in kubectl("get", "events", "-n", namespace, about)
    assert (
        "No resources"
        in kubectl.run("get", "events", "-n", namespace, "--field-selector=reason=Other").stderr
    )
    assert "IPAllocated" in kubectl("describe", "service", "web", "-n", namespace)


@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (SERVICE.replace("port: 80", "port: 80000"), "must be between 1 and 65535"),
        (SERVICE.replace("port: 80", "prot: 80"), 'unknown field "spec.ports[0].prot"'),
        (SERVICE.replace("name: web,", "name: Web,"), 'metadata.name: Invalid value: "Web"'),
        (SERVICE.replace("port: 443", "port: 80"), "Duplicate value"),
        (SERVICE.replace("LoadBalancer", "Loadbalancer"), "Unsupported value"),
        (SERVICE.replace("port: 80", "port: 80, nodePort: 80"), "30000-32767"),
        (SERVICE.replace("app: web}", "app: -}", 1), "a valid label must be"),
    ],
)
def test_wrong_services_are_refused(
    kubectl: Kubectl, namespace: str, manifest: str, wanted: str
) -> None:
    assert wanted in kubectl.fails("create", "-n", namespace, "-f", "-", stdin=manifest)


def test_missing_namespace(kubectl: Kubectl) -> None:
    refused = kubectl.fails("create", "configmap", "cm", "-n", "nowhere")
    assert 'namespaces "nowhere" not found' in refused
    assert "may not be deleted" in kubectl.fails("delete", "namespace", "kube-system")


def test_explain(kubectl: Kubectl) -> None:
    assert "FIELD: ports <[]" in kubectl("explain", "service.spec.ports")
    assert "myASN" in kubectl("explain", "bgppeer.spec")
    assert "ownerReferences" in kubectl("explain", "pool.metadata".replace("pool", "ipaddresspool"))


def test_may_i_and_who_am_i(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "services").strip() == "yes"
    assert "system:masters" in kubectl("auth", "whoami")


def test_tables_are_sorted_by_any_field(kubectl: Kubectl, namespace: str) -> None:
    for name, letter in (("one", "b"), ("two", "a")):
        kubectl("create", "configmap", name, f"--from-literal=key={letter}", "-n", namespace)
    listed = kubectl("get", "configmaps", "-n", namespace, "--sort-by=.data.key")
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "two", "one"]
    assert kubectl.run("get", "events", "-A", "--sort-by=.lastTimestamp").returncode == 0


def test_what_get_prints_can_be_applied(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "one", "--from-literal=a=b", "-n", namespace)
    kubectl("create", "configmap", "two", "--from-literal=c=d", "-n", namespace)
    listed = kubectl("get", "configmaps", "-n", namespace, "-o", "yaml")
    assert "kind: List" in listed
    kubectl("delete", "configmap", "two", "-n", namespace)
    told = kubectl("apply", "-f", "-", stdin=listed)
    assert "configmap/two created" in told
