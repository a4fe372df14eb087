"""Nonsense in any place of a request is the client's fault, never a failure of the server."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.testing.apiprocess import ApiProcess

BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/namespaces/default/services": {
        "metadata": {
            "generateName": "fuzz-",
            "labels": {"a": "b"},
            "annotations": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}],
            "finalizers": ["example.com/x"],
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": ["10.96.3.3"],
            "ipFamilies": ["IPv4"],
            "selector": {"a": "b"},
            "ports": [{"name": "a", "port": 80, "targetPort": "web", "nodePort": 30333}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "externalIPs": ["192.0.2.1"],
        },
    },
    "/apis/metallb.io/v1beta1/namespaces/metallb-system/ipaddresspools": {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "IPAddressPool",
        "metadata": {"generateName": "fuzz-"},
        "spec": {
            "addresses": ["203.0.113.0/28"],
            "serviceAllocation": {
                "priority": 1,
                "namespaceSelectors": [
                    {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                ],
            },
        },
    },
    "/apis/metallb.io/v1beta1/namespaces/metallb-system/bgppeers": {
        "apiVersion": "metallb.io/v1beta1",
        "kind": "BGPPeer",
        "metadata": {"generateName": "fuzz-", "annotations": {"metallb.io/x": "{}"}},
        "spec": {
            "myASN": 64500,
            "peerASN": 64501,
            "peerAddress": "192.0.2.1",
            "nodeSelectors": [{"matchLabels": {"a": "b"}}],
        },
    },
    "/api/v1/namespaces/default/secrets": {
        "metadata": {"generateName": "fuzz-"},
        "type": "Opaque",
        "data": {"a": "Yg=="},
        "stringData": {"c": "d"},
    },
    "/api/v1/namespaces": {"metadata": {"generateName": "fuzz-"}, "spec": {"finalizers": ["x"]}},
    "/api/v1/nodes": {
        "metadata": {"generateName": "fuzz-"},
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
    },
}

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0.5, 1e300, "", "x", "None", "::", "0.0.0.0/0", "\x00", "é", "a" * 300]),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.just([{}]),
    st.just({"": None}),
    st.just({"$patch": "delete"}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for name, part in value.items():
            found += places(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            found += places(part, (*path, number))
    return found


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    url = draw(st.sampled_from(sorted(BODIES)))
    body = copy.deepcopy(BODIES[url])
    for place in draw(st.lists(st.sampled_from(places(body)), min_size=1, max_size=2)):
        holder: Any = body
        try:
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]] = copy.deepcopy(draw(junk))
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change removed the place
    return url, body


QUIET = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """A server of its own: what nonsense leaves behind is nobody else's."""
    with ApiProcess(tmp_path_factory.mktemp("fuzz")) as server:
        yield server


def request(server: ApiProcess, method: str, url: str, body: Any, content: str) -> tuple[int, str]:
    async def scenario() -> tuple[int, str]:
        headers = {"Content-Type": content}
        async with (
            aiohttp.ClientSession(server.url) as client,
            client.request(method, url, data=json.dumps(body), headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    return asyncio.run(scenario())


@QUIET
@given(spoilt())
def test_spoilt_creates(fuzzed: ApiProcess, case: tuple[str, dict[str, Any]]) -> None:
    url, body = case
    status, text = request(fuzzed, "POST", url + "?dryRun=All", body, "application/json")
    assert status < 500, text


FORMATS = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


@QUIET
@given(spoilt(), st.sampled_from(FORMATS))
def test_spoilt_patches(fuzzed: ApiProcess, case: tuple[str, dict[str, Any]], form: str) -> None:
    url, body = case
    name = "fuzz-target"
    whole = copy.deepcopy(BODIES[url])
    whole["metadata"] = {"name": name}
    status, text = request(fuzzed, "POST", url, whole, "application/json")
    assert status in (201, 409), text
    query = "?dryRun=All&fieldManager=fuzz&force=true"
    status, text = request(fuzzed, "PATCH", f"{url}/{name}{query}", body, form)
    assert status < 500, text
