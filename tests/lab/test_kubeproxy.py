"""The stand-in for kube-proxy, judged by curl: which backend answers, and which client it sees."""

import sys
from collections.abc import Iterator
from functools import partial

import pytest

from clarion.lab.kubeproxy import json_documents, load, render
from clarion.lab.netns import Lab, Namespace
from clarion.lab.process import wait_until
from clarion.model.core import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from clarion.model.meta import ObjectMeta

from .conftest import Segment

pytestmark = pytest.mark.lab

VIPS = ("203.0.113.200", "fc00:f853:ccd:e799::1")
NODES = {"node-x": 111, "node-y": 112}


def service(policy: str) -> Service:
    return Service(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=ServiceSpec(
            type="LoadBalancer",
            external_traffic_policy=policy,
            ports=(ServicePort(name="http", port=80),),
        ),
        status=ServiceStatus(
            load_balancer=LoadBalancerStatus(
                ingress=tuple(LoadBalancerIngress(ip=ip) for ip in VIPS)
            )
        ),
    )


def slices(*nodes: str, ready: bool = True) -> list[EndpointSlice]:
    return [
        EndpointSlice(
            metadata=ObjectMeta(
                name=f"web-{version}",
                namespace="default",
                labels={"kubernetes.io/service-name": "web"},
            ),
            address_type=f"IPv{version}",
            ports=(EndpointPort(name="http", port=8080),),
            endpoints=tuple(
                Endpoint(
                    addresses=(prefix + format(NODES[node], "d" if version == 4 else "x"),),
                    node_name=node,
                    conditions=EndpointConditions(ready=ready),
                )
                for node in nodes
            ),
        )
        for version, prefix in ((4, "192.0.2."), (6, "2001:db8:1::"))
    ]


@pytest.fixture(scope="module")
def hosts(lab: Lab, segment: Segment) -> Iterator[dict[str, Namespace]]:
    made = {name: segment.host(name, number, forwarding=True) for name, number in NODES.items()}
    client = segment.host("caller", 110)
    for name, node in made.items():
        node.popen([sys.executable, "-m", "clarion.lab.backend", "--node", name])
    client.add_route("203.0.113.200/32", via="192.0.2.111")
    client.add_route("fc00:f853:ccd:e799::1/128", via="2001:db8:1::6f")
    for name in made:
        address = f"http://192.0.2.{NODES[name]}:8080/"
        wait_until(partial(curl, client, address), 15, f"{name}: backend answers")
    yield {**made, "client": client}
    for node in made.values():
        node.stop_all()


def curl(client: Namespace, url: str) -> str:
    return client.run(["curl", "-sg", "--max-time", "1", url], check=False).stdout.strip()


def answers(client: Namespace, count: int = 12) -> set[str]:
    urls = [f"http://[{vip}]/" if ":" in vip else f"http://{vip}/" for vip in VIPS]
    return {curl(client, url) for url in urls for _ in range(count)}


def test_cluster_policy_reaches_every_backend_and_hides_the_client(
    hosts: dict[str, Namespace],
) -> None:
    script = render("node-x", [service("Cluster")], slices("node-x", "node-y"))
    assert load(hosts["node-x"].full_name, script)
    seen = answers(hosts["client"])
    assert {line.split()[2] for line in seen} == {"node-x", "node-y"}
    from_y = {line.rpartition(" ")[2] for line in seen if "node-y" in line}
    assert from_y == {"192.0.2.111", "2001:db8:1::6f"}


def test_local_policy_keeps_the_client_and_its_own_backends(hosts: dict[str, Namespace]) -> None:
    script = render("node-x", [service("Local")], slices("node-x", "node-y"))
    assert load(hosts["node-x"].full_name, script)
    assert answers(hosts["client"]) == {
        f"served by node-x pod web-node-x-8080, client {address}"
        for address in ("192.0.2.110", "2001:db8:1::6e")
    }


@pytest.mark.parametrize(
    ("policy", "given"),
    [("Local", slices("node-y")), ("Cluster", slices("node-x", ready=False)), ("Cluster", [])],
)
def test_without_a_backend_nothing_answers(
    hosts: dict[str, Namespace], policy: str, given: list[EndpointSlice]
) -> None:
    assert load(hosts["node-x"].full_name, render("node-x", [service(policy)], given))
    url = f"http://{VIPS[0]}/"
    assert curl(hosts["client"], url) == ""


def test_a_stream_of_documents_is_cut_at_the_right_places() -> None:
    stream = '{\n  "a": {\n  }\n}\n{"b": 1}\n{\n  "c": []\n}\n'
    assert list(json_documents(stream.splitlines(keepends=True))) == [
        {"a": {}},
        {"b": 1},
        {"c": []},
    ]
