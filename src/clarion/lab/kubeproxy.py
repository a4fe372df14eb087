"""Stand-in for kube-proxy: nftables rules on every node from Services and EndpointSlices.

`render` is pure: objects in, one atomic nft script out. As a program (`python -m
clarion.lab.kubeproxy --kubeconfig F node-a=NAMESPACE ...`) it follows the API with `kubectl get
--watch` and loads a node's script whenever it changes. It belongs to the lab, not to the product:
in a cluster this is kube-proxy's work.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from clarion.base.addr import parse_address
from clarion.lab.process import LabError, pause, run
from clarion.model.annotations import LABEL_SLICE_SERVICE
from clarion.model.codec import from_builtins
from clarion.model.core import EndpointSlice, Service, ServicePort

TABLE = "inet clarion_lab_proxy"
MASQUERADE_MARK = "0x4000"
RETRY_SECONDS = 0.3
SETTLE_SECONDS = 0.05
QUEUE_MAX = 10_000
KINDS: dict[str, type[Service] | type[EndpointSlice]] = {
    "services": Service,
    "endpointslices": EndpointSlice,
}


class Backend(NamedTuple):
    """Where a packet may go."""

    address: str
    port: int
    node: str


def render(node: str, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> str:
    """The nft script of one node: replaces the whole table in one transaction."""
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for each in slices:
        owner = each.metadata.labels.get(LABEL_SLICE_SERVICE, "")
        by_service.setdefault((each.namespace, owner), []).append(each)
    rules: list[str] = []
    addresses: set[str] = set()
    for service in sorted(services, key=lambda service: service.key):
        backends_of = by_service.get((service.namespace, service.name), [])
        rules += _service_rules(node, service, backends_of)
        addresses.update(_external_addresses(service))
    # Whatever else arrives for a service address must not be routed back where it came from.
    rules += [f"{_family(a)} daddr {a} drop" for a in sorted(addresses)]
    body = "".join(f"    {rule}\n" for rule in rules)
    return (
        f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n"
        f"  chain services {{\n{body}  }}\n"
        "  chain prerouting {\n    type nat hook prerouting priority dstnat; policy accept;\n"
        "    jump services\n  }\n"
        "  chain output {\n    type nat hook output priority -100; policy accept;\n"
        "    jump services\n  }\n"
        "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n"
        f"    meta mark and {MASQUERADE_MARK} == {MASQUERADE_MARK} masquerade\n  }}\n"
        "}\n"
    )


def _external_addresses(service: Service) -> list[str]:
    if service.spec.type != "LoadBalancer":
        return []
    return [each.ip for each in service.status.load_balancer.ingress if each.ip]


def _family(address: str) -> str:
    return "ip6" if parse_address(address).version == 6 else "ip"


def _service_rules(node: str, service: Service, slices: Sequence[EndpointSlice]) -> Iterator[str]:
    local_only = service.spec.external_traffic_policy == "Local"
    inside = [a for a in service.spec.cluster_ips if a not in ("", "None")]
    for port in service.spec.ports:
        for address in sorted(_external_addresses(service)):
            every = _backends(slices, port, _family(address))
            chosen = [b for b in every if b.node == node] if local_only else every
            yield _rule(address, port, chosen, masquerade=not local_only)
        for address in inside:
            yield _rule(address, port, _backends(slices, port, _family(address)), masquerade=True)


def _backends(slices: Sequence[EndpointSlice], port: ServicePort, family: str) -> list[Backend]:
    wanted = "IPv6" if family == "ip6" else "IPv4"
    return sorted(
        {
            Backend(endpoint.addresses[0], target.port, endpoint.node_name or "")
            for each in slices
            if each.address_type == wanted
            for target in each.ports
            if (target.name or "") == port.name and target.port is not None
            for endpoint in each.endpoints
            if endpoint.addresses and endpoint.conditions.ready is not False
        }
    )


def _rule(address: str, port: ServicePort, backends: list[Backend], *, masquerade: bool) -> str:
    family = _family(address)
    match = f"{family} daddr {address} {port.protocol.lower()} dport {port.port}"
    if not backends:
        return f"{match} drop"
    mark = f"meta mark set meta mark or {MASQUERADE_MARK} " if masquerade else ""
    if len(backends) == 1:
        only = backends[0]
        target = f"[{only.address}]" if family == "ip6" else only.address
        return f"{match} {mark}dnat {family} to {target}:{only.port}"
    table = ", ".join(f"{i} : {b.address} . {b.port}" for i, b in enumerate(backends))
    choice = f"numgen random mod {len(backends)} map {{ {table} }}"
    return f"{match} {mark}dnat {family} addr . port to {choice}"


class Store:
    """Services and slices as last seen, each kind's list replaced when its watch starts anew."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Any]] = {kind: {} for kind in KINDS}

    def reset(self, plural: str) -> None:
        """Forget a kind: its watch starts again with a list."""
        self.objects[plural].clear()

    def apply(self, plural: str, event: dict[str, Any]) -> None:
        """Take in one watch event."""
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            return
        obj = from_builtins(event["object"], KINDS[plural])
        if event["type"] == "DELETED":
            self.objects[plural].pop(obj.key, None)
        else:
            self.objects[plural][obj.key] = obj

    def script(self, node: str) -> str:
        """The rules of a node."""
        services, slices = (self.objects[kind].values() for kind in KINDS)
        return render(node, services, slices)


def json_documents(chunks: Iterable[str]) -> Iterator[Any]:
    """The JSON documents of a stream that holds one after the other."""
    decoder, buffer = json.JSONDecoder(), ""
    for chunk in chunks:
        buffer += chunk
        if not chunk.rstrip().endswith("}"):
            continue
        while buffer := buffer.lstrip():
            try:
                document, end = decoder.raw_decode(buffer)
            except ValueError:
                break
            yield document
            buffer = buffer[end:]


class Follower(threading.Thread):
    """Feeds the watch of one kind into the queue, for ever."""

    def __init__(self, plural: str, kubeconfig: str, events: "queue.Queue[Change]") -> None:
        super().__init__(name=f"follow-{plural}", daemon=True)
        self.plural = plural
        self.events = events
        self.argv = ["kubectl", f"--kubeconfig={kubeconfig}", "get", plural, "--all-namespaces"]
        self.argv += ["--watch", "--output-watch-events", "--output=json"]

    def run(self) -> None:
        """Start kubectl again whenever it ends (the API was restarted, the cable was cut)."""
        while True:
            with subprocess.Popen(
                self.argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as kubectl:
                assert kubectl.stdout is not None
                fresh = True
                for event in json_documents(kubectl.stdout):
                    self.events.put((self.plural, event, fresh))
                    fresh = False
            pause(RETRY_SECONDS)


Change = tuple[str, dict[str, Any], bool]


def follow(kubeconfig: str, nodes: dict[str, str]) -> None:
    """Keep the rules of the nodes (name to network namespace) in step with the API."""
    events: queue.Queue[Change] = queue.Queue(QUEUE_MAX)
    store, loaded = Store(), dict[str, str]()
    for plural in KINDS:
        Follower(plural, kubeconfig, events).start()
    while True:
        plural, event, fresh = events.get()
        while True:
            if fresh:
                store.reset(plural)
            store.apply(plural, event)
            try:
                plural, event, fresh = events.get(timeout=SETTLE_SECONDS)
            except queue.Empty:
                break
        for node, namespace in nodes.items():
            script = store.script(node)
            if loaded.get(node) != script and load(namespace, script):
                loaded[node] = script


def end_group(*_: object) -> None:
    """SIGTERM: end with the watching kubectl processes, which are this group's other members."""
    if os.getpid() == os.getpgrp():
        os.killpg(0, signal.SIGKILL)
    raise SystemExit(0)


def load(namespace: str, script: str) -> bool:
    """Load a node's rules; a refusal is printed, and the next change tries again."""
    try:
        run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], stdin=script)
    except LabError as error:
        print(f"{error}\n{script}", file=sys.stderr, flush=True)
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Follow the API until SIGTERM."""
    parser = argparse.ArgumentParser(prog="clarion.lab.kubeproxy")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("nodes", nargs="+", metavar="NODE=NAMESPACE")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, end_group)
    follow(chosen.kubeconfig, dict(word.split("=", 1) for word in chosen.nodes))


if __name__ == "__main__":
    main()
