"""Services on their way in: defaults, families, allocation, and what may change."""

import copy
from collections.abc import Iterable
from typing import Any

import pytest

from clarion.apiserver.allocations import Allocations, ExhaustedError, ServiceNetwork
from clarion.apiserver.services import prepare
from clarion.apiserver.store import Change, ChangeType, Entry, Key
from clarion.apiserver.wire import encode, read_meta
from clarion.base.addr import parse_prefix
from clarion.base.errors import InvalidInputError

DUAL = "10.96.0.0/24,fd00:10:96::/112"


class Dice:
    """Always the same throw."""

    def random(self) -> float:
        return 0.0

    def token(self, length: int) -> str:
        return "x" * length

    def uid(self) -> str:
        return "00000000-0000-0000-0000-000000000000"


class Cluster:
    """Services as a store would hold them, without one."""

    def __init__(self, network: str = DUAL) -> None:
        self.allocations = Allocations(ServiceNetwork.parse(network), Dice())
        self._stored: dict[str, dict[str, Any]] = {}
        self._revision = 0

    def write(self, name: str, spec: dict[str, Any], **status: Any) -> dict[str, Any]:
        """Create or update; the result is the spec as stored."""
        causes, new = self.attempt(name, spec, **status)
        assert not causes, causes
        old = self._stored.get(name)
        self._revision += 1
        kind = ChangeType.MODIFIED if old else ChangeType.ADDED
        previous = self._entry(name, old) if old else None
        self.allocations.staged(Change(kind, self._entry(name, new), previous))
        self._stored[name] = new
        return dict(new["spec"])

    def attempt(
        self, name: str, spec: dict[str, Any], **status: Any
    ) -> tuple[list[str], dict[str, Any]]:
        """What is wrong with it, and what it would become."""
        new: dict[str, Any] = {"spec": copy.deepcopy(spec), "status": status}
        old = copy.deepcopy(self._stored.get(name))
        causes = prepare(self.allocations, Key("services", "ns", name), new, old)
        return [str(cause) for cause in causes], new

    def delete(self, name: str) -> None:
        old = self._entry(name, self._stored.pop(name))
        self.allocations.staged(Change(ChangeType.DELETED, old, old))

    def entries(self) -> Iterable[Entry]:
        return [self._entry(name, body) for name, body in self._stored.items()]

    def _entry(self, name: str, body: dict[str, Any]) -> Entry:
        raw = encode(body)
        return Entry(Key("services", "ns", name), self._revision, 0.0, raw, read_meta(raw))


PORTS = [{"port": 80}]
LB = {"type": "LoadBalancer", "ports": PORTS}


def test_defaults_by_type() -> None:
    cluster = Cluster()
    plain = cluster.write("plain", {"ports": PORTS})
    assert plain == {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "None",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    balanced = cluster.write("balanced", {**LB, "externalTrafficPolicy": "Local"})
    assert balanced["allocateLoadBalancerNodePorts"] is True
    assert balanced["ports"][0]["nodePort"] == 30000
    assert balanced["healthCheckNodePort"] == 30001
    bare = cluster.write("bare", {**LB, "allocateLoadBalancerNodePorts": False})
    assert "nodePort" not in bare["ports"][0]
    sticky = cluster.write("sticky", {"ports": PORTS, "sessionAffinity": "ClientIP"})
    assert sticky["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    named = cluster.write("named", {"type": "ExternalName", "externalName": "example.com"})
    assert "clusterIP" not in named
    assert "ipFamilies" not in named


@pytest.mark.parametrize(
    ("spec", "families", "policy", "count"),
    [
        ({}, ["IPv4"], "SingleStack", 1),
        ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack", 2),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            ["IPv6", "IPv4"],
            "RequireDualStack",
            2,
        ),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack", 1),
        ({"clusterIP": "fd00:10:96::0:9"}, ["IPv6"], "SingleStack", 1),
        ({"clusterIP": "None", "selector": {"a": "b"}}, ["IPv4"], "SingleStack", 1),
        ({"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack", 1),
    ],
)
def test_families(spec: dict[str, Any], families: list[str], policy: str, count: int) -> None:
    stored = Cluster().write("s", {"ports": PORTS, **spec})
    assert (stored["ipFamilies"], stored["ipFamilyPolicy"]) == (families, policy)
    assert len(stored["clusterIPs"]) == count
    assert stored["clusterIP"] == stored["clusterIPs"][0]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]},
            'spec.ports[1].name: Duplicate value: "a"',
        ),
        ({"ports": [{"port": 80, "targetPort": "no good"}]}, "spec.ports[0].targetPort"),
        ({"ports": [{"port": 80, "nodePort": 80}]}, "The range of valid ports is 30000-32767"),
        ({"externalTrafficPolicy": "Local"}, "externally-accessible services"),
        ({"loadBalancerClass": "x"}, "may only be used when `type` is 'LoadBalancer'"),
        ({"healthCheckNodePort": 30005}, "`externalTrafficPolicy` is 'Local'"),
        ({"type": "LoadBalancer", "clusterIP": "None"}, "may not be set to 'None'"),
        ({"type": "ExternalName"}, "spec.externalName: Required value"),
        ({"ipFamilies": ["IPv4", "IPv6"]}, "must be RequireDualStack or PreferDualStack"),
        ({"ipFamilies": ["IPv4", "IPv4"]}, 'spec.ipFamilies[1]: Duplicate value: "IPv4"'),
        ({"ipFamilies": ["IPv5"]}, "Unsupported value"),
        ({"clusterIP": "10.97.0.1"}, "is not in 10.96.0.0/24"),
        ({"clusterIP": "nonsense"}, "must be a valid IP address"),
        ({"externalIPs": ["x"]}, "spec.externalIPs[0]"),
        ({"loadBalancerSourceRanges": ["10.0.0.0"]}, "must be a valid CIDR value"),
    ],
)
def test_refusals(spec: dict[str, Any], wanted: str) -> None:
    causes, _ = Cluster().attempt("s", {"ports": PORTS, **spec})
    assert any(wanted in cause for cause in causes), causes


def test_all_faults_are_told_at_once() -> None:
    spec = {"ports": [{"port": 0, "nodePort": 1}, {"port": 99999}], "externalIPs": ["x"]}
    causes, _ = Cluster().attempt("s", spec)
    assert [cause.split(":")[0] for cause in causes] == [
        "spec.ports[0].name",
        "spec.ports[0].port",
        "spec.ports[0].targetPort",
        "spec.ports[0].nodePort",
        "spec.ports[1].name",
        "spec.ports[1].port",
        "spec.ports[1].targetPort",
        "spec.externalIPs[0]",
    ]


def test_update_takes_over_what_it_leaves_out() -> None:
    cluster = Cluster()
    first = cluster.write("s", LB)
    again = cluster.write("s", {"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 81}][:1]})
    assert again == first
    more = cluster.write(
        "s",
        {"type": "LoadBalancer", "ports": [{"port": 81, "name": "b"}, {"port": 80, "name": "a"}]},
    )
    assert more["ports"][1]["nodePort"] == first["ports"][0]["nodePort"]
    assert more["ports"][0]["nodePort"] != first["ports"][0]["nodePort"]


def test_change_of_type_drops_what_only_the_old_one_needed() -> None:
    cluster = Cluster()
    spec = cluster.write("s", {**LB, "externalTrafficPolicy": "Local"}, loadBalancer={"a": 1})
    spec["type"] = "ClusterIP"
    plain = cluster.write("s", spec)
    for field in ("healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
        assert field not in plain
    assert "nodePort" not in plain["ports"][0]
    assert cluster.allocations.port_holder(30000) is None
    named = cluster.write("s", {**plain, "type": "ExternalName", "externalName": "example.com"})
    assert "clusterIP" not in named
    assert cluster.allocations.address_holder(plain["clusterIP"]) is None


def test_what_may_not_change() -> None:
    cluster = Cluster()
    spec = cluster.write("s", {**LB, "loadBalancerClass": "a"})
    for change, wanted in (
        ({"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}, "may not change once set"),
        ({"loadBalancerClass": "b"}, "spec.loadBalancerClass"),
        ({"loadBalancerClass": None}, "spec.loadBalancerClass"),
        ({"ipFamilies": ["IPv6"]}, "spec.ipFamilies[0]"),
    ):
        causes, _ = cluster.attempt("s", {**spec, **change})
        assert any(wanted in cause for cause in causes), (change, causes)


def test_second_family_comes_and_goes() -> None:
    cluster = Cluster()
    spec = cluster.write("s", {"ports": PORTS})
    dual = cluster.write("s", {**spec, "ipFamilyPolicy": "PreferDualStack"})
    assert dual["clusterIPs"] == [spec["clusterIP"], "fd00:10:96::1"]
    single = cluster.write("s", {**dual, "ipFamilyPolicy": "SingleStack"})
    assert single["clusterIPs"] == [spec["clusterIP"]]
    assert cluster.allocations.address_holder("fd00:10:96::1") is None


def test_held_values_are_refused_to_others_until_released() -> None:
    cluster = Cluster()
    first = cluster.write("first", LB)
    asked = {**LB, "clusterIP": first["clusterIP"], "ports": copy.deepcopy(first["ports"])}
    causes, _ = cluster.attempt("second", asked)
    assert ["already allocated" in cause for cause in causes] == [True, True]
    rebuilt = Allocations(ServiceNetwork.parse(DUAL), Dice())
    rebuilt.rolled_back(iter(cluster.entries()))
    assert rebuilt.address_holder(first["clusterIP"]) == Key("services", "ns", "first")
    cluster.delete("first")
    assert cluster.write("second", asked)["clusterIP"] == first["clusterIP"]


def test_ports_of_two_protocols_share_a_node_port() -> None:
    spec = {
        "type": "LoadBalancer",
        "ports": [
            {"port": 53, "protocol": "TCP", "name": "t"},
            {"port": 53, "protocol": "UDP", "name": "u"},
        ],
    }
    tcp, udp = Cluster().write("dns", spec)["ports"]
    assert tcp["nodePort"] == udp["nodePort"]


def test_ranges_end() -> None:
    cluster = Cluster("10.96.0.0/30")
    cluster.write("a", {"ports": PORTS})
    cluster.write("b", {"ports": PORTS})
    causes, _ = cluster.attempt("c", {"ports": PORTS})
    assert "range 10.96.0.0/30 is full" in causes[0]
    with pytest.raises(ExhaustedError):
        cluster.allocations.free_address(parse_prefix("10.96.0.0/30"))
    for wrong in ("10.96.0.0/24,10.97.0.0/24", "10.96.0.0", "a,b,c"):
        with pytest.raises(InvalidInputError):
            ServiceNetwork.parse(wrong)
