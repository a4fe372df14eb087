"""A cluster as MetalLB leaves it (examples/migration), and the programs that take it over."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from clarion.lab.process import Process, run, wait_until
from clarion.testing.apiprocess import free_port
from clarion.testing.engine import Engine

STATE: Final = Path(__file__).resolve().parents[2] / "examples" / "migration"
SYSTEM: Final = "metallb-system"
NODES: Final = ("node-a", "node-b", "node-c")
WITH_STATUS: Final = {
    "ConfigurationState",
    "IPAddressPool",
    "Node",
    "Service",
    "ServiceBGPStatus",
    "ServiceL2Status",
}
TOLD: Final = ("servicel2statuses", "servicebgpstatuses")

Object = dict[str, Any]


def documents(*names: str) -> list[Object]:
    """Objects of the files; routers are on loopback, where nobody listens."""
    found: list[Object] = []
    for name in names:
        text = (STATE / name).read_text()
        text = text.replace("192.0.2.252", "127.0.0.2").replace("192.0.2.253", "127.0.0.3")
        found += [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]
    return found


def clarion(engine: Engine, *words: str, check: bool = True) -> Any:
    """Run a command of ours with the administrator's credentials."""
    argv = [sys.executable, "-m", "clarion.cli.main", *words]
    return run(argv, check=check, env={"KUBECONFIG": str(engine.kubeconfig)}, timeout=60)


class Migration:
    """One cluster, from MetalLB to Clarion and back."""

    def __init__(self, engine: Engine, version: str) -> None:
        self.engine = engine
        self.kubectl = engine.kubectl
        self.version = version

    # --- what MetalLB leaves ----------------------------------------------------------------

    def write_state(self) -> None:
        """Definitions, objects, then their statuses as their writers did, then the webhooks."""
        self._apply(documents("definitions.yaml"))
        names = sorted(item["metadata"]["name"] for item in documents("definitions.yaml"))
        crds = [f"crd/{name}" for name in names]
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
        # Conversion is what the test cannot offer: nobody serves it. Objects of the old version are
        # stored as such, which is what a cluster of that age has.
        objects = documents("cluster.yaml", f"metallb-{self.version}.yaml")
        self._no_conversion()
        webhooks = [item for item in objects if item["kind"].startswith("ValidatingWebhook")]
        others = [item for item in objects if item not in webhooks]
        self._apply([item for item in others if item["kind"] == "Namespace"])
        account = ("get", "serviceaccount", "default", "-n", SYSTEM)
        wait_until(lambda: self.kubectl.run(*account).returncode == 0, 20, "a service account")
        old = [item for item in others if item["apiVersion"] == "metallb.io/v1beta1"]
        old = [item for item in old if item["kind"] == "BGPPeer"]
        if old:
            self._store_as("v1beta1")
            self._apply(old)
            self._store_as("v1beta2")
        self._apply([item for item in others if item not in old])
        self._own()
        for item in others:
            if item["kind"] in WITH_STATUS and "status" in item:
                self._write_status(item)
        self._apply(webhooks)

    def _apply(self, items: list[Object]) -> None:
        text = yaml.dump_all(items, Dumper=yaml.CSafeDumper)
        self.kubectl("apply", "--server-side", "--field-manager=helm", "-f", "-", stdin=text)

    def _no_conversion(self) -> None:
        patch = {"spec": {"conversion": {"strategy": "None", "webhook": None}}}
        self.kubectl("patch", "crd", "bgppeers.metallb.io", "--type=merge", "-p", json.dumps(patch))

    def _store_as(self, version: str) -> None:
        """Make one version of BGPPeer the stored one, as an older release had it."""
        patch = [
            {"op": "replace", "path": f"/spec/versions/{index}/storage", "value": name == version}
            for index, name in enumerate(("v1beta1", "v1beta2"))
        ]
        words = ("crd", "bgppeers.metallb.io", "--type=json", "-p", json.dumps(patch))
        self.kubectl("patch", *words)

    def _write_status(self, item: Object) -> None:
        """Replace the whole, as MetalLB does: so it writes the annotation of a service, too."""
        self.kubectl(
            *("replace", "--subresource=status", "--field-manager=controller", "-f", "-"),
            stdin=json.dumps(item),
        )

    def _own(self) -> None:
        """Owner references as MetalLB sets them: Pods of the DaemonSet, statuses of the Pods."""
        pods = {item["spec"]["nodeName"]: item for item in self.pods() if "speaker" in _name(item)}
        controller = next(item for item in self.pods() if "controller" in _name(item))
        deployment = self.kubectl.get("deployment", "controller", "-n", SYSTEM)
        daemons = self.kubectl.get("daemonset", "speaker", "-n", SYSTEM)
        for pod in pods.values():
            self._belongs(pod, daemons)
        self._belongs(controller, deployment)
        self._belongs(self.kubectl.get("secret", "memberlist", "-n", SYSTEM), deployment)
        for plural in (*TOLD, "configurationstates"):
            for item in self.items(plural):
                labels = item["metadata"]["labels"]
                node = labels.get("metallb.io/node") or labels.get("metallb.io/node-name")
                self._belongs(item, pods[node] if node else controller)

    def _belongs(self, item: Object, owner: Object) -> None:
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": _name(owner),
            "uid": owner["metadata"]["uid"],
        }
        patch = json.dumps({"metadata": {"ownerReferences": [reference]}})
        what = f"{item['kind'].lower()}/{_name(item)}"
        self.kubectl("patch", what, "-n", SYSTEM, "--type=merge", "-p", patch)

    def end_metallb(self) -> None:
        """Delete both workloads; the Pods end as their kubelets would end them."""
        self.kubectl("delete", "deployment/controller", "daemonset/speaker", "-n", SYSTEM)
        names = [f"pod/{_name(item)}" for item in self.pods()]
        words = ("-n", SYSTEM, "--grace-period=0", "--force", "--ignore-not-found")
        self.kubectl("delete", *names, *words)

    # --- looking ----------------------------------------------------------------------------

    def items(self, plural: str, namespace: str = SYSTEM) -> list[Object]:
        found: list[Object] = self.kubectl.get(plural, "-n", namespace)["items"]
        return found

    def pods(self) -> list[Object]:
        return self.items("pods")

    def services(self) -> dict[str, Object]:
        return {_name(item): item for item in self.items("services", "shop")}

    def told(self, plural: str) -> set[tuple[str, str]]:
        """Node and service of every status object; one told twice is there twice as a name."""
        return {_about(item) for item in self.items(plural)}

    # --- Clarion ----------------------------------------------------------------------------

    @contextmanager
    def programs(self) -> Iterator[Mapping[str, Process]]:
        """The controller and a speaker for each node; without interfaces they send nothing."""
        argv = [sys.executable, "-m", "clarion.cli.main"]
        common = ["--kubeconfig", str(self.engine.kubeconfig), "--namespace", SYSTEM]
        logs = self.engine.directory
        started = {}
        health = f"127.0.0.1:{free_port()}"
        started["controller"] = Process(
            [*argv, "controller", *common, "--listen-http", health], log=logs / "controller.log"
        )
        for node in NODES:
            flags = ["--node-name", node, "--l2-exclude-interface", ".", "--listen-http", ""]
            started[node] = Process(
                [*argv, "speaker", *common, *flags], log=logs / f"speaker-{node}.log"
            )
        try:
            yield started
            assert all(process.alive for process in started.values())
        finally:
            for process in started.values():
                process.stop()


def _name(item: Object) -> str:
    name: str = item["metadata"]["name"]
    return name


def _about(item: Object) -> tuple[str, str]:
    status = item.get("status", {})  # written after the object
    return status.get("node", ""), status.get("serviceName", "")
