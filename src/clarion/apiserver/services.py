"""What a cluster does to a Service on its way in: defaults, allocation, and rules of change.

The steps are those of Kubernetes: values that an update leaves out are taken over from the stored
object, fields that the new type does not need are dropped, the rest is defaulted, checked, and
then completed with addresses and ports.
"""

import re
from ipaddress import ip_address
from typing import Any

from clarion.apiserver import servicestatus
from clarion.apiserver.allocations import (
    NODE_PORT_FIRST,
    NODE_PORT_LAST,
    Allocations,
    ExhaustedError,
    canonical,
    family_of,
    spec_of,
)
from clarion.apiserver.metadata import check_key, check_labels
from clarion.apiserver.resources import missing
from clarion.apiserver.status import Cause, Json
from clarion.apiserver.store import Key
from clarion.base.addr import parse_address, parse_prefix
from clarion.base.errors import InvalidInputError

_EXTERNAL = ("NodePort", "LoadBalancer")
_BALANCER_ONLY = ("allocateLoadBalancerNodePorts", "loadBalancerClass")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_AFFINITY_SECONDS = 10800
_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:-?[a-z0-9]){0,14}\Z")


def prepare(allocations: Allocations, key: Key, new: Json, old: Json | None) -> list[Cause]:
    """Complete `new` in place; give back everything that is wrong with it.

    Nothing is taken by this: the index learns of addresses and ports when the write is staged.
    """
    spec = spec_of(new)
    before = spec_of(old) if old is not None else None
    if before is not None:
        _take_over(spec, before)
    _set_defaults(spec)
    if before is not None:
        _drop_unneeded(spec, before)
        _drop_status(new, spec, before)
    causes = _check(spec)
    causes += _check_changes(spec, before)
    servicestatus.complete(spec["type"], new["status"])
    if old is not None and new["status"] != old.get("status"):
        causes += servicestatus.check(spec["type"], new["status"])
    if causes:
        return causes
    return _Completion(allocations, key, spec, before).run()


def warn(new: Json, old: Json | None) -> list[str]:
    """What Kubernetes deprecates: said when it is written anew."""
    spec, before = spec_of(new), spec_of(old) if old is not None else {}
    found = []
    if spec.get("externalIPs") and spec["externalIPs"] != before.get("externalIPs"):
        found.append("spec.externalIPs is deprecated; clusters may not support it any more")
    if spec.get("trafficDistribution") == "PreferClose" != before.get("trafficDistribution"):
        found.append("spec.trafficDistribution: PreferClose is now called PreferSameZone")
    return found


def _headless(spec: Json) -> bool:
    return bool(spec.get("clusterIP") == "None" or "None" in spec.get("clusterIPs", []))


def _needs_cluster_ip(spec: Json) -> bool:
    return bool(spec.get("type") != "ExternalName")


def _needs_node_ports(spec: Json) -> bool:
    kind = spec.get("type")
    given = spec.get("allocateLoadBalancerNodePorts") is not False
    return kind == "NodePort" or (kind == "LoadBalancer" and given)


def _needs_health_port(spec: Json) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


# Taking over what an update left out.


def _take_over(spec: Json, before: Json) -> None:
    if _needs_cluster_ip(spec) and _needs_cluster_ip(before):
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for field in ("clusterIP", "clusterIPs"):
                if field in before:
                    spec[field] = before[field]
        elif spec.get("clusterIP") == before.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = list(before.get("clusterIPs", []))
        elif spec.get("clusterIPs") == before.get("clusterIPs") and spec.get("clusterIP"):
            spec["clusterIPs"] = [spec["clusterIP"], *before.get("clusterIPs", [])[1:]]
        if not spec.get("ipFamilyPolicy") and "ipFamilyPolicy" in before:
            spec["ipFamilyPolicy"] = before["ipFamilyPolicy"]
        if not spec.get("ipFamilies") and "ipFamilies" in before:
            spec["ipFamilies"] = list(before["ipFamilies"])
    if _needs_node_ports(spec) and _needs_node_ports(before):
        held = {_port_key(port): port.get("nodePort", 0) for port in before.get("ports", [])}
        asked = {port.get("nodePort", 0) for port in spec.get("ports", [])}
        for port in spec.get("ports", []):
            number = held.get(_port_key(port), 0)
            if not port.get("nodePort") and number and number not in asked:
                port["nodePort"] = number
    if (
        _needs_health_port(spec)
        and _needs_health_port(before)
        and not spec.get("healthCheckNodePort")
    ):
        spec["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)


def _port_key(port: Json) -> tuple[Any, Any]:
    return port.get("protocol", "TCP"), port.get("port")


# Defaults.


def _set_defaults(spec: Json) -> None:
    kind = spec.setdefault("type", "ClusterIP")
    if spec.setdefault("sessionAffinity", "None") == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
    else:
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port")
        if not port.get("nodePort"):
            port.pop("nodePort", None)
    if kind in _EXTERNAL:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if not spec.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)


def _drop_unneeded(spec: Json, before: Json) -> None:
    """Remove what only the former type needed, if the client did not change it."""

    def drop(field: str) -> None:
        if spec.get(field) == before.get(field):
            spec.pop(field, None)

    if not _needs_cluster_ip(spec) and _needs_cluster_ip(before):
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            drop(field)
        drop("internalTrafficPolicy")
    if not _needs_node_ports(spec) and _needs_node_ports(before):
        held = {_port_key(port): port.get("nodePort") for port in before.get("ports", [])}
        # Switching allocation off keeps the ports that are there, as in Kubernetes.
        if spec.get("type") not in _EXTERNAL:
            for port in spec.get("ports", []):
                if port.get("nodePort") == held.get(_port_key(port)):
                    port.pop("nodePort", None)
    if not _needs_health_port(spec):
        drop("healthCheckNodePort")
    if spec.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        for field in _BALANCER_ONLY:
            drop(field)
    if spec.get("type") not in _EXTERNAL and before.get("type") in _EXTERNAL:
        drop("externalTrafficPolicy")


def _drop_status(service: Json, spec: Json, before: Json) -> None:
    if spec.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        service["status"]["loadBalancer"] = {}


# Checks that need only the object.


def _check(spec: Json) -> list[Cause]:
    kind = spec["type"]
    causes = _check_ports(spec)
    if kind == "ExternalName":
        if not spec.get("externalName"):
            causes.append(missing("spec.externalName"))
        if spec.get("clusterIP") not in (None, "", "None"):
            causes.append(Cause("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"))
    elif not spec.get("ports") and not _headless(spec):
        causes.append(missing("spec.ports"))
    if _headless(spec) and kind in _EXTERNAL:
        message = f"may not be set to 'None' for {kind} services"
        causes.append(Cause("spec.clusterIPs[0]", _bad("None", message)))
    if kind not in _EXTERNAL and spec.get("externalTrafficPolicy"):
        message = "may only be set for externally-accessible services"
        causes.append(
            Cause("spec.externalTrafficPolicy", _bad(spec["externalTrafficPolicy"], message))
        )
    if kind != "LoadBalancer":
        for field in (*_BALANCER_ONLY, "loadBalancerSourceRanges"):
            if spec.get(field) not in (None, []):
                message = "Forbidden: may only be used when `type` is 'LoadBalancer'"
                causes.append(Cause(f"spec.{field}", message, "FieldValueForbidden"))
    if spec.get("healthCheckNodePort") and not _needs_health_port(spec):
        message = (
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
        causes.append(Cause("spec.healthCheckNodePort", _bad(spec["healthCheckNodePort"], message)))
    if balancer := spec.get("loadBalancerClass"):
        causes += check_key("spec.loadBalancerClass", balancer)
    distribution = spec.get("trafficDistribution")
    if distribution and distribution not in _DISTRIBUTIONS:
        choice = ", ".join(f'"{one}"' for one in _DISTRIBUTIONS)
        message = f'Unsupported value: "{distribution}": supported values: {choice}'
        causes.append(Cause("spec.trafficDistribution", message, "FieldValueNotSupported"))
    causes += check_labels("spec.selector", spec.get("selector", {}))
    causes += _check_addresses(spec)
    timeout = spec.get("sessionAffinityConfig", {}).get("clientIP", {}).get("timeoutSeconds", 1)
    if not 0 < timeout <= 86400:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        causes.append(Cause(field, _bad(timeout, "must be greater than 0 and at most 86400")))
    return causes


def _bad(value: Any, message: str) -> str:
    shown = f'"{value}"' if isinstance(value, str) else value
    return f"Invalid value: {shown}: {message}"


def _check_ports(spec: Json) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    seen: set[tuple[Any, Any]] = set()
    ports = spec.get("ports", [])
    for place, port in enumerate(ports):
        path = f"spec.ports[{place}]"
        causes += _check_port(path, port, named=len(ports) > 1)
        name = port.get("name", "")
        if name and name in names:
            causes.append(Cause(f"{path}.name", f'Duplicate value: "{name}"', _DUPLICATE))
        names.add(name)
        if _port_key(port) in seen:
            shown = f'{{"protocol":"{port["protocol"]}","port":{port.get("port")}}}'
            causes.append(Cause(path, f"Duplicate value: {shown}", _DUPLICATE))
        seen.add(_port_key(port))
    return causes


_DUPLICATE = "FieldValueDuplicate"


def _check_port(path: str, port: Json, *, named: bool) -> list[Cause]:
    causes: list[Cause] = []
    name = port.get("name", "")
    if named and not name:
        causes.append(missing(f"{path}.name"))
    elif name and not _DNS_LABEL.match(name):
        message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
        causes.append(Cause(f"{path}.name", _bad(name, f"{message} '-'")))
    number = port.get("port", 0)
    if not 1 <= number <= 65535:
        message = "must be between 1 and 65535, inclusive"
        causes.append(Cause(f"{path}.port", _bad(number, message)))
    target = port.get("targetPort", 1)
    if isinstance(target, int):
        if not 1 <= target <= 65535:
            message = "must be between 1 and 65535, inclusive"
            causes.append(Cause(f"{path}.targetPort", _bad(target, message)))
    elif not _PORT_NAME.match(target):
        message = "must be a port number or name (at most 15 of a-z, 0-9 and -, with a letter)"
        causes.append(Cause(f"{path}.targetPort", _bad(target, message)))
    node_port = port.get("nodePort", 0)
    if node_port and not NODE_PORT_FIRST <= node_port <= NODE_PORT_LAST:
        message = (
            "provided port is not in the valid range. The range of valid ports is "
            f"{NODE_PORT_FIRST}-{NODE_PORT_LAST}"
        )
        causes.append(Cause(f"{path}.nodePort", _bad(node_port, message)))
    return causes


def _check_addresses(spec: Json) -> list[Cause]:
    causes: list[Cause] = []
    for place, address in enumerate(spec.get("externalIPs", [])):
        message = _why_not_reachable(address)
        if message:
            causes.append(Cause(f"spec.externalIPs[{place}]", _bad(address, message)))
    for place, prefix in enumerate(spec.get("loadBalancerSourceRanges", [])):
        try:
            parse_prefix(prefix.strip())
        except InvalidInputError:
            message = "must be a valid CIDR value, (e.g. 192.0.2.0/24 or 2001:db8::/64)"
            path = f"spec.loadBalancerSourceRanges[{place}]"
            causes.append(Cause(path, _bad(prefix, message)))
    families = spec.get("ipFamilies", [])
    for place, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            message = f'Unsupported value: "{family}": supported values: "IPv4", "IPv6"'
            causes.append(Cause(f"spec.ipFamilies[{place}]", message, "FieldValueNotSupported"))
        elif family in families[:place]:
            message = f'Duplicate value: "{family}"'
            causes.append(Cause(f"spec.ipFamilies[{place}]", message, _DUPLICATE))
    for place, address in enumerate(spec.get("clusterIPs", [])):
        if address != "None" and canonical(address) is None:
            message = "must be a valid IP address, (e.g. 192.0.2.1 or 2001:db8::1)"
            causes.append(Cause(f"spec.clusterIPs[{place}]", _bad(address, message)))
    single = spec.get("clusterIP")
    if single and single != "None" and canonical(single) is None and not spec.get("clusterIPs"):
        message = "must be a valid IP address, (e.g. 192.0.2.1 or 2001:db8::1)"
        causes.append(Cause("spec.clusterIPs[0]", _bad(single, message)))
    return causes


def _why_not_reachable(text: str) -> str:
    """Why an address cannot be one outside the cluster; empty if it can."""
    if canonical(text) is None:
        return "must be a valid IP address, (e.g. 192.0.2.1 or 2001:db8::1)"
    address = ip_address(text)
    return next(
        (
            f"may not be {kind}"
            for kind, found in (
                ("the unspecified address", address.is_unspecified),
                ("a loopback address", address.is_loopback),
                ("a link-local address", address.is_link_local),
                ("a link-local multicast address", address.is_multicast),
            )
            if found
        ),
        "",
    )


def _check_changes(spec: Json, before: Json | None) -> list[Cause]:
    """Rules that compare with the stored object."""
    if before is None:
        return []
    causes: list[Cause] = []
    if _needs_cluster_ip(spec) and _needs_cluster_ip(before):
        held = before.get("clusterIPs", [])
        asked = spec.get("clusterIPs") or [spec.get("clusterIP")]
        if held and asked[:1] != held[:1]:
            shown = ",".join(f'"{address}"' for address in asked)
            message = f"Invalid value: []string{{{shown}}}: may not change once set"
            causes.append(Cause("spec.clusterIPs[0]", message))
        families, primary = spec.get("ipFamilies", []), before.get("ipFamilies", [])
        if families and primary and families[0] != primary[0]:
            message = _bad(families[0], "may not change once set")
            causes.append(Cause("spec.ipFamilies[0]", message))
    if (
        spec["type"] == "LoadBalancer"
        and before.get("type") == "LoadBalancer"
        and spec.get("loadBalancerClass") != before.get("loadBalancerClass")
    ):
        message = _bad(spec.get("loadBalancerClass"), "may not change once set")
        causes.append(Cause("spec.loadBalancerClass", message))
    if (
        _needs_health_port(spec)
        and _needs_health_port(before)
        and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort")
    ):
        message = _bad(spec.get("healthCheckNodePort"), "field is immutable")
        causes.append(Cause("spec.healthCheckNodePort", message))
    return causes


class _Completion:
    """Gives one service its families, cluster addresses and node ports."""

    def __init__(self, allocations: Allocations, key: Key, spec: Json, before: Json | None) -> None:
        self._allocations = allocations
        self._key = key
        self._spec = spec
        self._before = before
        self._causes: list[Cause] = []

    def run(self) -> list[Cause]:
        """Complete the spec; give back what is wrong."""
        if _needs_cluster_ip(self._spec):
            self._families()
            if not self._causes:
                self._cluster_addresses()
        self._ports()
        return self._causes

    def _refuse(self, field: str, message: str) -> None:
        self._causes.append(Cause(field, message))

    def _families(self) -> None:
        spec, configured = self._spec, self._allocations.network.families
        addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        headless = "None" in addresses
        selectorless = headless and not spec.get("selector")
        default = "RequireDualStack" if selectorless and len(configured) > 1 else "SingleStack"
        policy = spec.setdefault("ipFamilyPolicy", default)
        families = list(spec.get("ipFamilies", []))
        if policy == "SingleStack":
            families, addresses = self._downgrade(families, addresses)
        if not headless:
            families = self._families_of(addresses, families)
        for family in families:
            if family not in configured and not selectorless:
                shown = f"may not use {family} on a cluster which is not configured for it"
                self._refuse("spec.ipFamilies[0]", _bad(family, shown))
        if policy == "RequireDualStack" and len(configured) < 2 and not selectorless:
            message = "this cluster is not configured for dual-stack services"
            self._refuse("spec.ipFamilyPolicy", _bad(policy, message))
        wanted = 1 if policy == "SingleStack" else 2
        for family in configured:
            if len(families) < wanted and family not in families:
                families.append(family)
        spec["ipFamilies"] = families
        if addresses:
            spec["clusterIPs"] = addresses

    def _downgrade(self, families: list[str], addresses: list[str]) -> tuple[list[str], list[str]]:
        """SingleStack with two families: dropped if the stored service had them, else refused."""
        was_dual = self._before is not None and self._before.get("ipFamilyPolicy") != "SingleStack"
        if not was_dual:
            message = "must be RequireDualStack or PreferDualStack when multiple"
            if len(families) > 1:
                text = f"{message} IP families are specified"
                self._refuse("spec.ipFamilyPolicy", _bad("SingleStack", text))
            elif len(addresses) > 1:
                text = f"{message} cluster IPs are specified"
                self._refuse("spec.ipFamilyPolicy", _bad("SingleStack", text))
        return families[:1], addresses[:1]

    def _families_of(self, addresses: list[str], families: list[str]) -> list[str]:
        """Families that follow from the addresses asked for."""
        result = list(families)
        for place, address in enumerate(addresses):
            family = family_of(address)
            if place >= len(result):
                result.append(family)
            elif result[place] != family:
                message = f'expected an {result[place]} value as indicated by "ipFamilies"'
                self._refuse(f"spec.clusterIPs[{place}]", _bad(address, message))
        return result

    def _cluster_addresses(self) -> None:
        spec = self._spec
        if _headless(spec):
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        given = [canonical(address) or address for address in spec.get("clusterIPs", [])]
        if len(given) > len(spec["ipFamilies"]):
            given = given[: len(spec["ipFamilies"])]
        result = []
        for place, family in enumerate(spec["ipFamilies"]):
            prefix = self._allocations.network.prefix(family)
            assert prefix is not None, "families were checked against the configuration"
            if place >= len(given):
                try:
                    result.append(self._allocations.free_address(prefix))
                except ExhaustedError as error:
                    self._refuse("spec.clusterIPs", f"Internal error: {error}")
                continue
            address = given[place]
            holder = self._allocations.address_holder(address)
            if holder not in (None, self._key):
                self._refuse("spec.clusterIPs", self._taken(address, "is already allocated"))
            elif family_of(address) == family and parse_address(address) not in prefix:
                self._refuse("spec.clusterIPs", self._taken(address, f"is not in {prefix}"))
            result.append(address)
        spec["clusterIPs"] = result
        spec["clusterIP"] = result[0] if result else ""

    @staticmethod
    def _taken(address: str, why: str) -> str:
        shown = f'[]string{{"{address}"}}'
        return f"Invalid value: {shown}: failed to allocate IP {address}: provided IP {why}"

    def _ports(self) -> None:
        spec = self._spec
        own = {port["nodePort"] for port in spec.get("ports", []) if port.get("nodePort")}
        if spec.get("healthCheckNodePort"):
            own.add(spec["healthCheckNodePort"])
        by_number: dict[int, int] = {}
        for place, port in enumerate(spec.get("ports", [])):
            number = port.get("nodePort", 0)
            if number:
                self._claim(f"spec.ports[{place}].nodePort", number)
            elif _needs_node_ports(spec):
                # TCP and UDP on the same port share a node port, as in Kubernetes.
                number = by_number.get(port["port"]) or self._free_port(own)
                if number:
                    port["nodePort"] = number
                    own.add(number)
            by_number.setdefault(port["port"], number)
        if _needs_health_port(spec):
            if spec.get("healthCheckNodePort"):
                self._claim("spec.healthCheckNodePort", spec["healthCheckNodePort"])
            else:
                spec["healthCheckNodePort"] = self._free_port(own)

    def _claim(self, field: str, number: int) -> None:
        if self._allocations.port_holder(number) not in (None, self._key):
            self._refuse(field, _bad(number, "provided port is already allocated"))

    def _free_port(self, own: set[int]) -> int:
        try:
            return self._allocations.free_port(own)
        except ExhaustedError as error:
            self._refuse("spec.ports", f"Internal error: failed to allocate a nodePort: {error}")
            return 0
