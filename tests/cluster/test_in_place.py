"""MetalLB's own manifests and chart, as published, are turned into Clarion's and back.

Judges: kube-apiserver, kubectl, helm. What is compared is what the API server holds at the end.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.testing.engine import Engine

from .deploy_kit import (
    CHART,
    KUSTOMIZE,
    ROOT,
    SYSTEM,
    Helm,
    Object,
    by_kind,
    identity,
    kustomized,
    missing,
    objects,
    text_of,
)

WORKLOADS = ("deployments.apps", "daemonsets.apps")
POOL = f"""
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: kept, namespace: {SYSTEM}}}
spec: {{addresses: [203.0.113.0/28]}}
"""


@pytest.fixture(scope="module")
def metallb() -> Path:
    """MetalLB's repository, as the Go module that tools/judges fetches."""
    module = ROOT / "tests" / "judges" / "metallb"
    try:
        done = subprocess.run(
            ["go", "list", "-m", "-f", "{{.Dir}}", "go.universe.tf/metallb"],
            cwd=module,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        missing("no Go, which fetches MetalLB's manifests")
    if not done.stdout.strip():
        missing("no manifests of MetalLB: tools/judges fetches them")
    return Path(done.stdout.strip())


@pytest.fixture
def cluster(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    del engine  # asked for because it says why there is none
    with Engine(tmp_path, controllers=()) as made:
        made.kubectl("create", "namespace", SYSTEM)
        yield made


def held(cluster: Engine) -> dict[str, Object]:
    """The workloads that the API server holds, without what it counts."""
    found = cluster.kubectl.get(",".join(WORKLOADS), "-n", SYSTEM)["items"]
    return {identity(item): item for item in found}


def keep_a_pool(cluster: Engine) -> None:
    """Write configuration although no controller answers the webhooks."""
    hooks = "validatingwebhookconfiguration/metallb-webhook-configuration"
    saved = json.loads(cluster.kubectl("get", hooks, "-o", "json"))
    cluster.kubectl("delete", hooks)
    cluster.kubectl("apply", "-f", "-", stdin=POOL)
    for field in ("resourceVersion", "uid", "creationTimestamp"):
        del saved["metadata"][field]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(saved))


def same_pods(one: Object, other: Object) -> bool:
    return bool(one["spec"]["template"]["spec"] == other["spec"]["template"]["spec"])


@pytest.mark.parametrize("flavour", ["native", "frr", "frr-k8s"])
def test_manifests_are_replaced_exactly_and_put_back(
    cluster: Engine, metallb: Path, flavour: str
) -> None:
    kubectl = cluster.kubectl
    theirs = objects((metallb / "config" / "manifests" / f"metallb-{flavour}.yaml").read_text())
    kubectl("apply", "-f", "-", stdin=text_of(theirs))
    keep_a_pool(cluster)
    before = held(cluster)
    force = ("apply", "--server-side", "--force-conflicts", "-f", "-")

    ours = kustomized(kubectl, KUSTOMIZE / "native")
    kubectl(*force, stdin=text_of(ours))
    after = held(cluster)
    for name in ("Deployment/controller", "DaemonSet/speaker"):
        assert after[name]["metadata"]["uid"] == before[name]["metadata"]["uid"]
        assert not same_pods(after[name], before[name])
    # Exactly ours: nothing of a container, volume or argument of theirs is left.
    fresh = {
        identity(item): json.loads(
            kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=text_of([item]))
        )
        for kind in ("Deployment", "DaemonSet")
        for item in renamed(by_kind(ours, kind))
    }
    for name, item in fresh.items():
        assert same_pods(item, after[name.removesuffix("-fresh")])
    for kind in ("ClusterRole", "Role"):
        for item in by_kind(ours, kind):
            live = kubectl.get(kind, item["metadata"]["name"], "-n", SYSTEM)
            assert live["rules"] == item["rules"]
    assert kubectl.get("ipaddresspool", "kept", "-n", SYSTEM)["spec"]["addresses"]

    kubectl(*force, stdin=text_of(theirs))
    assert held(cluster).keys() == before.keys()
    assert all(same_pods(item, before[name]) for name, item in held(cluster).items())


def renamed(items: list[Object]) -> list[Object]:
    return [
        {**item, "metadata": {**item["metadata"], "name": f"{item['metadata']['name']}-fresh"}}
        for item in items
    ]


def test_a_release_of_the_chart_is_upgraded_and_taken_back(cluster: Engine, metallb: Path) -> None:
    helm, kubectl = Helm(cluster.directory, cluster.kubeconfig), cluster.kubectl
    theirs = ("metallb", str(metallb / "charts" / "metallb"), "--namespace", SYSTEM)
    ours = ("metallb", str(CHART), "--namespace", SYSTEM)
    helm("install", *theirs, "--set=frrk8s.enabled=false")
    keep_a_pool(cluster)
    before = held(cluster)

    helm("upgrade", *ours, "--reset-values", "--set=nameOverride=metallb")
    after = held(cluster)
    assert before.keys() == after.keys()
    for name, item in after.items():
        assert item["metadata"]["uid"] == before[name]["metadata"]["uid"]
        containers = item["spec"]["template"]["spec"]["containers"]
        assert [container["image"].partition(":")[0] for container in containers] == ["clarion"]
        assert "initContainers" not in item["spec"]["template"]["spec"]
    assert kubectl.get("ipaddresspool", "kept", "-n", SYSTEM)["spec"]["addresses"]

    helm("upgrade", *theirs, "--reset-values", "--set=frrk8s.enabled=false")
    back = held(cluster)
    for items in (before, back):
        # Of MetalLB's two ports of one number (TCP and UDP) a patch keeps one; it is only a note.
        items["DaemonSet/metallb-speaker"]["spec"]["template"]["spec"]["containers"][0].pop("ports")
    assert all(same_pods(item, before[name]) for name, item in back.items())
    assert kubectl.get("ipaddresspool", "kept", "-n", SYSTEM)["spec"]["addresses"]
