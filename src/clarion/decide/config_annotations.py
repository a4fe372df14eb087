"""Warnings about annotations: misspelt keys, keys on the wrong kind, values that cannot be read."""

import difflib
from collections.abc import Iterable, Iterator

from clarion.decide.config_build import hint, ref
from clarion.decide.demand import read_demand
from clarion.decide.problems import Problem
from clarion.decide.reasons import Reason
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.annotations import (
    ADDRESS_POOL,
    DEPRECATED_PREFIX,
    LOAD_BALANCER_IPS,
    PASSIVE,
    PREFIX,
    READ_OF,
    deprecated_twin,
    service_annotation,
)
from clarion.model.core import Service
from clarion.model.meta import KubeObject

DOMAINS = tuple(dict.fromkeys(key.partition("/")[0] for key in READ_OF))
REQUESTS = (LOAD_BALANCER_IPS, ADDRESS_POOL)
"""Annotations by which a service asks for addresses."""

LIKE_OURS = 0.85
"""So similar to one of ours is a domain that is taken for a misspelt one: `metalb.io`."""


def path_of(key: str) -> str:
    """The path of an annotation."""
    return f"metadata.annotations[{key}]"


def annotation_warnings(objects: Iterable[KubeObject]) -> Iterator[Problem]:
    """Warn of keys that look like ours but are not read of the object."""
    domains: dict[str, bool] = {}
    for obj in objects:
        for key, value in obj.metadata.annotations.items():
            kinds = READ_OF.get(key)
            facts: dict[str, str | int] = {"key": key}
            if kinds is None and _meant_for_us(key, domains):
                code = "annotation-unknown"
                facts["hint"] = _nearest(key, obj.kind)
            elif kinds is not None and obj.kind not in kinds:
                code = "annotation-without-effect"
                facts |= {"kinds": " and ".join(kinds), "kind": obj.kind}
            elif key == PASSIVE and value not in ("true", "false"):
                code = "passive-invalid"
                facts = {"value": repr(value)}
            else:
                continue
            yield Problem(code=code, object=ref(obj), path=path_of(key), facts=facts)


def _meant_for_us(key: str, known: dict[str, bool]) -> bool:
    """True if the domain is ours or a misspelt one of ours; `known` keeps the answers."""
    domain, slash, _ = key.partition("/")
    if slash and domain not in known:
        close = difflib.get_close_matches(domain, DOMAINS, n=1, cutoff=LIKE_OURS)
        known[domain] = bool(close)
    return bool(slash) and known[domain]


def _nearest(key: str, kind: str) -> str:
    """The key probably meant; domains are too much alike to be compared with the name."""
    names = {name.partition("/")[2]: name for name, of in READ_OF.items() if kind in of}
    close = difflib.get_close_matches(key.partition("/")[2], names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""


def request_warnings(snapshot: Snapshot, services: Iterable[Service]) -> Iterator[Problem]:
    """Warn of deprecated ways to ask for an address, and of requests that cannot be followed."""
    pools = [pool.name for pool in snapshot.pools]
    for service in services:
        yield from _deprecated(service)
        yield from _unreadable(service, snapshot.options)
        wanted = service_annotation(service, ADDRESS_POOL)
        # Manifests of services alone name pools that live elsewhere.
        if wanted and wanted not in pools and (pools or not snapshot.options.assume_cluster):
            facts: dict[str, str | int] = {"name": wanted, "hint": hint(wanted, pools)}
            path = request_path(service, ADDRESS_POOL)
            yield Problem(code="wanted-pool-unknown", object=ref(service), path=path, facts=facts)


def _deprecated(service: Service) -> Iterator[Problem]:
    for key in sorted(service.metadata.annotations):
        if key.startswith(DEPRECATED_PREFIX) and key in READ_OF:
            new = PREFIX + key.removeprefix(DEPRECATED_PREFIX)
            yield Problem(
                code="annotation-deprecated",
                object=ref(service),
                path=path_of(key),
                facts={"key": key, "new": new},
            )
    if service.spec.load_balancer_ip:
        path = "spec.loadBalancerIP"
        yield Problem(code="load-balancer-ip-deprecated", object=ref(service), path=path)


def _unreadable(service: Service, options: Options) -> Iterator[Problem]:
    """The decision's own reason why a request is not followed."""
    if not service.metadata.annotations and not service.spec.load_balancer_ip:
        return
    demand = read_demand(service, options)
    fault = None if isinstance(demand, Reason) else demand.request_fault
    if fault:
        path = request_path(service, LOAD_BALANCER_IPS) or "spec.loadBalancerIP"
        facts: dict[str, str | int] = {"why": fault.text, "remedy": fault.remedy}
        yield Problem(code="request-unreadable", object=ref(service), path=path, facts=facts)


def request_path(service: Service, key: str) -> str:
    """The path of a request by annotation, in the spelling that counts; empty without one."""
    if not service_annotation(service, key):
        return ""
    return path_of(key if key in service.metadata.annotations else deprecated_twin(key))
