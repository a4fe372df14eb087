"""Kustomize and the Helm chart on the real API server, which admits what they make.

The engine here also runs the controllers of Deployments and DaemonSets and a scheduler, so the Pods
are those that a cluster would make, where it would place them. Judges: kube-apiserver,
kube-controller-manager, kube-scheduler, kubectl, helm.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.lab.process import wait_until
from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import CONTROLLERS, Engine, find_programs

from .deploy_kit import (
    CHART,
    KUSTOMIZE,
    ROOT,
    SYSTEM,
    Helm,
    Object,
    by_kind,
    container_of,
    identity,
    kustomized,
    objects,
    text_of,
)

WORKLOADS = ("deployment", "replicaset", "daemonset", "disruption")
NODES = {
    "plain": ("linux", None),
    "other": ("linux", None),
    "control-plane": ("linux", {"key": "node-role.kubernetes.io/control-plane"}),
    "windows": ("windows", None),
}
POOL = f"""
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: kept, namespace: {SYSTEM}}}
spec: {{addresses: [203.0.113.0/28]}}
"""
# Everything that is off by default and that the API server knows the kinds of.
FULL = (
    "--set=networkpolicies.enabled=true,networkpolicies.defaultDeny=true",
    "--set=prometheus.scrapeAnnotations=true,loadBalancerClass=example.com/lb",
    "--set=speaker.ignoreExcludeLB=true,speaker.excludeInterfaces.enabled=false",
    "--set=controller.runtimeClassName=,controller.podAnnotations.a=b,speaker.labels.c=d",
    '--set-json=speaker.tolerations=[{"operator":"Exists"}]',
    '--set-json=imagePullSecrets=[{"name":"pull"}]',
)
VARIANTS = {
    "default": (),
    "full": FULL,
    "no webhooks": ("--set=controller.webhookMode=disabled",),
    "frr": ("--set=speaker.frr.enabled=true",),
    "frr-k8s beside it": ("--set=frrk8s.external=true",),
    "frr-k8s elsewhere": ("--set=frrk8s.external=true,frrk8s.namespace=default",),
    "no speaker": ("--set=speaker.enabled=false",),
    "no controller": ("--set=controller.enabled=false",),
    "accounts of others": (
        "--set=rbac.create=false,controller.serviceAccount.create=false",
        "--set=speaker.serviceAccount.name=announcer",
    ),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Engine]:
    """An engine of its own: what is installed here refuses configuration while nobody answers."""
    del engine  # asked for because it says why there is none
    controllers = (*CONTROLLERS, *(f"{name}-controller" for name in WORKLOADS))
    with Engine(tmp_path_factory.mktemp("packaging"), controllers=controllers) as made:
        for name, (system, taint) in NODES.items():
            labels = {"kubernetes.io/os": system}
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
            }
            made.kubectl("create", "-f", "-", stdin=text_of([node]))
            # It begins as not ready; here no kubelet takes that taint away.
            taints = [{**taint, "effect": "NoSchedule"}] if taint else None
            patch = json.dumps({"spec": {"taints": taints}})
            made.kubectl("patch", "node", name, "--type=merge", "-p", patch)
            room = {"cpu": "4", "memory": "8Gi", "pods": "50"}
            status = json.dumps({"status": {"capacity": room, "allocatable": room}})
            words = ("--subresource=status", "--type=merge", "-p", status)
            made.kubectl("patch", "node", name, *words)
        made.start_scheduler()
        yield made


@pytest.fixture
def kubectl(cluster: Engine) -> Kubectl:
    return cluster.kubectl


@pytest.fixture(scope="module")
def helm(cluster: Engine) -> Helm:
    return Helm(cluster.directory, cluster.kubeconfig)


@pytest.fixture(scope="module")
def native(cluster: Engine) -> list[Object]:
    return kustomized(cluster.kubectl, KUSTOMIZE / "native")


@pytest.fixture(scope="module")
def installed(cluster: Engine, native: list[Object]) -> list[Object]:
    """The native overlay, applied."""
    apply(cluster.kubectl, native)
    return native


def apply(kubectl: Kubectl, items: list[Object], *flags: str) -> str:
    words = ("apply", "--server-side", "--validate=strict", *flags, "-f", "-")
    done = kubectl.run(*words, stdin=text_of(items))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr  # a warning is a fault too
    return done.stdout


def test_the_manifests_are_valid_and_applying_them_twice_changes_nothing(
    kubectl: Kubectl, installed: list[Object]
) -> None:
    kinds = ",".join(sorted({item["kind"] for item in installed}))

    def versions() -> dict[str, int]:
        found = kubectl.get(kinds, "-A")["items"]
        names = {identity(item) for item in installed}
        return {
            identity(i): i["metadata"].get("generation", 0) for i in found if identity(i) in names
        }

    before = versions()
    assert len(before) == len(installed)
    apply(kubectl, installed, "--dry-run=server")
    apply(kubectl, installed)
    assert versions() == before


def test_the_cluster_makes_and_places_the_pods(kubectl: Kubectl, installed: list[Object]) -> None:
    """Two controllers on two nodes; a speaker on each Linux node, also of the control plane."""

    def pods(part: str) -> list[Object]:
        found: list[Object] = kubectl.get("pods", "-n", SYSTEM, "-l", f"component={part}")["items"]
        return found

    def places(part: str) -> list[str]:
        return sorted(pod["spec"].get("nodeName", "") for pod in pods(part))

    wait_until(
        lambda: places("controller") == ["other", "plain"], 90, "a controller on each of two"
    )
    everywhere = ["control-plane", "other", "plain"]
    wait_until(lambda: places("speaker") == everywhere, 90, "a speaker on each Linux node")
    for pod in pods("controller") + pods("speaker"):
        assert pod["spec"]["priority"] >= 2_000_000_000

    def budget() -> bool:
        found = kubectl.get("pdb/controller", "-n", SYSTEM)["status"]
        return bool(found["expectedPods"] == 2)

    wait_until(budget, 30, "the disruption budget counts both")


def pod_of(items: list[Object], kind: str) -> Object:
    workload = by_kind(items, kind)[0]
    template = copy.deepcopy(workload["spec"]["template"])
    template["spec"]["serviceAccountName"] = "default"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        **template,
        "metadata": {"name": kind.lower(), "labels": template["metadata"]["labels"]},
    }


def namespace_of(kubectl: Kubectl, level: str) -> str:
    name = f"level-{level}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
    kubectl("create", "serviceaccount", "default", "-n", name, "--dry-run=client")
    wait_until(
        lambda: kubectl.run("get", "serviceaccount", "default", "-n", name).returncode == 0,
        20,
        "the namespace has its account",
    )
    return name


def test_pod_security_admits_no_more_than_is_needed(
    kubectl: Kubectl, native: list[Object], helm: Helm
) -> None:
    """The controller is "restricted"; the speaker is not "baseline", for two stated reasons."""
    restricted, baseline = (namespace_of(kubectl, level) for level in ("restricted", "baseline"))
    for items in (native, helm.template(), helm.template(*FULL)):
        controller, speaker = pod_of(items, "Deployment"), pod_of(items, "DaemonSet")
        for name in ("imagePullSecrets", "priorityClassName"):
            controller["spec"].pop(name, None)
        apply(kubectl, [controller], "--dry-run=server", "-n", restricted)
        refusal = kubectl.fails(
            "create", "--dry-run=server", "-n", baseline, "-f", "-", stdin=text_of([speaker])
        )
        violations = refusal.partition('violates PodSecurity "baseline:latest": ')[2]
        assert 'must not include "NET_RAW" in securityContext.capabilities.add' in violations
        # Ports of the host and probes of its loopback come with the host's network.
        reasons = {part.partition(" (")[0] for part in violations.strip().split("), ")}
        assert reasons - {"hostPort", "probe or lifecycle host"} == {
            "non-default capabilities",
            "host namespaces",
        }


def test_the_definitions_are_those_of_the_model(native: list[Object], helm: Helm) -> None:
    """One source; only the conversion of BGPPeer is filled in, and helm keeps them."""
    model = {
        identity(item): item
        for item in objects((ROOT / "deploy" / "crds" / "metallb.io.yaml").read_text())
    }
    for items, annotations in ((native, None), (helm.template(), "keep")):
        shipped = {
            identity(item): copy.deepcopy(item)
            for item in by_kind(items, "CustomResourceDefinition")
        }
        conversion = shipped["CustomResourceDefinition/bgppeers.metallb.io"]["spec"]["conversion"]
        assert conversion == {
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": {
                        "namespace": SYSTEM,
                        "name": "metallb-webhook-service",
                        "path": "/convert",
                    }
                },
            },
        }
        for name, item in shipped.items():
            kept = item["metadata"].pop("annotations", {}).get("helm.sh/resource-policy")
            assert kept == annotations
            item["spec"]["conversion"] = model[name]["spec"]["conversion"]
        assert shipped == model


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_chart_renders_is_valid(
    kubectl: Kubectl, installed: list[Object], helm: Helm, variant: str
) -> None:
    del installed  # namespace and kinds
    apply(kubectl, helm.template(*VARIANTS[variant]), "--dry-run=server", "--force-conflicts")


def rules_of(items: list[Object], kind: str) -> list[str]:
    return sorted(json.dumps(item["rules"], sort_keys=True) for item in by_kind(items, kind))


def test_chart_and_manifests_say_the_same(native: list[Object], helm: Helm) -> None:
    rendered = helm.template("--set=speaker.secretName=memberlist")
    for kind in ("ClusterRole", "Role"):
        assert rules_of(native, kind) == rules_of(rendered, kind)
    for kind in ("Deployment", "DaemonSet"):
        ours, theirs = (by_kind(items, kind)[0] for items in (native, rendered))
        one, other = container_of(ours), container_of(theirs)
        assert set(one["args"]) == set(other["args"])
        for part in ("image", "env", "ports", "securityContext", "volumeMounts", "resources"):
            assert one[part] == other[part], part
        for part in (
            "hostNetwork",
            "nodeSelector",
            "tolerations",
            "securityContext",
            "volumes",
            "priorityClassName",
            "terminationGracePeriodSeconds",
        ):
            pods = [item["spec"]["template"]["spec"].get(part) for item in (ours, theirs)]
            assert pods[0] == pods[1], part
    # MetalLB's own manifests and chart differ in the name of one webhook; each is followed.
    plain, charted = (
        [
            {**hook, "name": hook["name"].replace("bgppeersv", "bgppeerv")}
            for hook in by_kind(items, "ValidatingWebhookConfiguration")[0]["webhooks"]
        ]
        for items in (native, rendered)
    )
    assert plain == charted


def test_chart_and_overlay_give_the_same_rights_over_frr_k8s(kubectl: Kubectl, helm: Helm) -> None:
    overlay = kustomized(kubectl, KUSTOMIZE / "frr-k8s")
    for place, flag in ((SYSTEM, ""), ("other", "other")):
        chart = helm.template(f"--set=frrk8s.external=true,frrk8s.namespace={flag}")
        assert rules_of(chart, "Role") == rules_of(overlay, "Role")
        (role,) = (i for i in by_kind(chart, "Role") if i["metadata"]["name"].endswith("frr-k8s"))
        assert role["metadata"]["namespace"] == place
        words = [f"--frrk8s-namespace={flag}"] if flag else []
        args = container_of(by_kind(chart, "DaemonSet")[0])["args"]
        ours = container_of(by_kind(overlay, "DaemonSet")[0])["args"]
        assert sorted(args) == sorted([*ours, *words])


def test_chart_and_overlay_have_the_same_frr(kubectl: Kubectl, helm: Helm) -> None:
    overlay = kustomized(kubectl, KUSTOMIZE / "frr")
    apply(kubectl, overlay, "--dry-run=server", "--force-conflicts")
    ours, theirs = (
        by_kind(items, "DaemonSet")[0]["spec"]["template"]["spec"]
        for items in (overlay, helm.template("--set=speaker.frr.enabled=true"))
    )
    (one, *daemons), (other, *same) = ours["containers"], theirs["containers"]

    def named(items: list[Object]) -> dict[str, Object]:
        return {item["name"]: item for item in items}

    assert named(ours["volumes"]) == named(theirs["volumes"])
    assert named(one["volumeMounts"]) == named(other["volumeMounts"])
    assert set(one["args"]) == set(other["args"])
    assert "--bgp=frr" in one["args"]
    assert one["securityContext"] == other["securityContext"]
    for each in same:
        assert each.pop("imagePullPolicy") == "IfNotPresent"
    assert daemons == same


def test_the_chart_takes_the_place_of_metallbs_under_its_names(helm: Helm) -> None:
    rendered = helm.template("--set=nameOverride=metallb")
    names = {identity(item) for item in rendered}
    assert names >= {
        "Deployment/metallb-controller",
        "DaemonSet/metallb-speaker",
        "ServiceAccount/metallb-controller",
        "ServiceAccount/metallb-speaker",
        "ClusterRole/metallb:controller",
        "ClusterRoleBinding/metallb:speaker",
        "Role/metallb-controller",
        "Service/metallb-webhook-service",
        "ValidatingWebhookConfiguration/metallb-webhook-configuration",
    }
    # A selector cannot be changed later.
    for kind, part in (("Deployment", "controller"), ("DaemonSet", "speaker")):
        assert by_kind(rendered, kind)[0]["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": "metallb",
            "app.kubernetes.io/instance": "metallb",
            "app.kubernetes.io/component": part,
        }


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ("speaker.memberlist.enabled=true", "additional properties 'memberlist' not allowed"),
        ("speaker.frr.enabled=true,frrk8s.external=true", "one of them speaks BGP, not both"),
        ("frrk8s.enabled=true", "value must be false"),
        ("controller.webhookMode=onlywebhook", "value must be one of 'enabled', 'disabled'"),
        ("controller.logLevel=loud", "value must be one of"),
        ("prometheus.metricsPort=70000", "maximum: got 70,000, want 65,535"),
        ("prometheus.podMonitor.enabled=true", "whose account reads the metrics?"),
    ],
)
def test_a_value_that_would_do_nothing_or_wrong_is_refused(
    helm: Helm, values: str, refusal: str
) -> None:
    assert refusal in helm.fails("template", "x", str(CHART), "--set", values)


def test_the_chart_has_no_faults_that_helm_knows(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_scraped_speakers_listen_where_prometheus_comes_to(
    kubectl: Kubectl, installed: list[Object], helm: Helm, tmp_path: Path
) -> None:
    del installed
    monitored = helm.template("--set=prometheus.scrapeAnnotations=true")
    overlay = tmp_path / "kustomization.yaml"
    where = [
        Path("..", *[".."] * (len(tmp_path.parts) - 2), *path.parts[1:])
        for path in (KUSTOMIZE / "native", KUSTOMIZE / "components" / "prometheus")
    ]
    overlay.write_text(f"resources: [{where[0]}]\ncomponents: [{where[1]}]\n")
    component = kustomized(kubectl, tmp_path)
    apply(kubectl, component, "--dry-run=server")
    for items in (monitored, component):
        speaker = by_kind(items, "DaemonSet")[0]
        container = container_of(speaker)
        assert "--listen-http=$(POD_IP):7472" in container["args"]
        assert all(
            "host" not in container[probe]["httpGet"]
            for probe in ("livenessProbe", "readinessProbe")
        )
        for kind in ("DaemonSet", "Deployment"):
            notes = by_kind(items, kind)[0]["spec"]["template"]["metadata"]["annotations"]
            assert notes == {"prometheus.io/scrape": "true", "prometheus.io/port": "7472"}


def test_helm_installs_upgrades_and_leaves_configuration_behind(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert not find_programs()[1]
    with Engine(tmp_path_factory.mktemp("helm"), controllers=()) as cluster:
        helm, kubectl = Helm(cluster.directory, cluster.kubeconfig), cluster.kubectl
        place = ("metallb", str(CHART), "--namespace", SYSTEM)
        helm("install", *place, "--create-namespace", "--set=controller.webhookMode=disabled")
        kubectl("apply", "-f", "-", stdin=POOL)
        helm("upgrade", *place, "--reset-values")
        hooks = kubectl.get("validatingwebhookconfigurations", "metallb-webhook-configuration")
        assert len(hooks["webhooks"]) == 7
        helm("uninstall", "metallb", "--namespace", SYSTEM)
        assert kubectl.run("get", "daemonsets", "-n", SYSTEM, "-o", "name").stdout == ""
        assert kubectl("get", "ipaddresspools", "-n", SYSTEM, "-o", "name").split() == [
            "ipaddresspool.metallb.io/kept"
        ]
        helm("install", *place)
