"""Stand-in for the endpoint controller and the kubelets' probes: EndpointSlices from Services.

A cluster fills EndpointSlices with the pods that a service selects. The lab has one pod per node
(`clarion.lab.backend`, label `app=web`), so this program follows the services, probes the pods
over HTTP and applies one slice per service and family. Run as `python -m clarion.lab.endpoints
--kubeconfig F POD...` with POD written `name,node,ipv4,ipv6,port`.
"""

import argparse
import http.client
import json
import queue
import signal
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from clarion.lab.kubeproxy import QUEUE_MAX, Change, Follower, Store, end_group
from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.core import Service

PROBE_SECONDS = 0.5
POD_LABELS = {"app": "web"}
MANAGED_BY = {"endpointslice.kubernetes.io/managed-by": "clarion-lab"}


class Pod(NamedTuple):
    """A backend: one per node, on the node's own addresses."""

    name: str
    node: str
    ipv4: str
    ipv6: str
    port: int

    def labels(self) -> dict[str, str]:
        """Labels that a service can select by."""
        return {**POD_LABELS, "kubernetes.io/hostname": self.node}

    def __str__(self) -> str:
        return ",".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Pod":
        """Read what `str` wrote."""
        name, node, ipv4, ipv6, port = text.split(",")
        return cls(name, node, ipv4, ipv6, int(port))


def slices_for(service: Service, pods: Iterable[Pod], ready: set[str]) -> list[dict[str, Any]]:
    """The slices of one service: one per family that it has; none without a selector."""
    selector = service.spec.selector
    if not selector or service.spec.type == "ExternalName":
        return []
    chosen = [pod for pod in pods if selector.items() <= pod.labels().items()]
    families = service.spec.ip_families or ("IPv4",)
    return [_slice(service, family, chosen, ready) for family in families]


def _slice(service: Service, family: str, pods: list[Pod], ready: set[str]) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Service", "name": service.name}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service.name}-{family.lower()}",
            "namespace": service.namespace,
            "labels": {LABEL_SLICE_SERVICE: service.name, **MANAGED_BY},
            "ownerReferences": [{**owner, "uid": service.metadata.uid, "controller": True}],
        },
        "addressType": family,
        "ports": [
            {"name": port.name, "protocol": port.protocol, "port": pods[0].port if pods else 0}
            for port in service.spec.ports
        ],
        "endpoints": [
            {
                "addresses": [pod.ipv4 if family == "IPv4" else pod.ipv6],
                "conditions": {"ready": pod.name in ready},
                "nodeName": pod.node,
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": service.namespace},
            }
            for pod in pods
        ],
    }


def probe(pod: Pod) -> bool:
    """Whether a pod answers HTTP in time."""
    connection = http.client.HTTPConnection(pod.ipv4, pod.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def apply(kubeconfig: str, slices: list[dict[str, Any]]) -> bool:
    """Apply slices with kubectl; what is refused (service gone) is tried at the next look."""
    document = "\n".join(json.dumps(each) for each in slices)
    argv = ["kubectl", f"--kubeconfig={kubeconfig}", "apply", "-f", "-"]
    done = subprocess.run(argv, check=False, input=document, text=True, capture_output=True)
    if done.returncode != 0:
        print(done.stderr.strip(), flush=True)
    return done.returncode == 0


def follow(kubeconfig: str, pods: Sequence[Pod]) -> None:
    """Keep the slices in step with services and probes."""
    events: queue.Queue[Change] = queue.Queue(QUEUE_MAX)
    store, applied = Store(), dict[tuple[str, str], list[dict[str, Any]]]()
    Follower("services", kubeconfig, events).start()
    with ThreadPoolExecutor(len(pods)) as pool:
        while True:
            take(events, store)
            states = pool.map(probe, pods)
            ready = {pod.name for pod, up in zip(pods, states, strict=True) if up}
            wanted = {
                key: slices_for(service, pods, ready)
                for key, service in store.objects["services"].items()
            }
            changed = [
                each
                for key, slices in wanted.items()
                if applied.get(key) != slices
                for each in slices
            ]
            if not changed or apply(kubeconfig, changed):
                applied = wanted


def take(events: "queue.Queue[Change]", store: Store) -> None:
    """Take in what has changed, waiting for a first change no longer than a probe's period."""
    timeout = PROBE_SECONDS
    while True:
        try:
            plural, event, fresh = events.get(timeout=timeout)
        except queue.Empty:
            return
        if fresh:
            store.reset(plural)
        store.apply(plural, event)
        timeout = PROBE_SECONDS / 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow the API until SIGTERM."""
    parser = argparse.ArgumentParser(prog="clarion.lab.endpoints")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("pods", nargs="+", metavar="POD", type=Pod.parse)
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, end_group)
    follow(chosen.kubeconfig, chosen.pods)


if __name__ == "__main__":
    main()
