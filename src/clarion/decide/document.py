"""Plain values (JSON) of what was decided: addresses as text, reasons with their words.

Each document names its schema, one of `docs/schemas/`; the number in the name changes when a field
changes its name or meaning.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from clarion.base.addr import Address, AddressRange, Prefix
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.communities import ExtendedCommunity, format_community
from clarion.decide.diff import PlanDiff
from clarion.decide.ledger import INT64_MAX
from clarion.decide.plan import Plan
from clarion.decide.problems import ObjectRef, Problem
from clarion.decide.reasons import Reason
from clarion.model.meta import ObjectKey

PLAN_SCHEMA = "clarion.plan/v1"
EXPLAIN_SCHEMA = "clarion.explain/v1"
VALIDATE_SCHEMA = "clarion.validate/v1"
DIFF_SCHEMA = "clarion.diff/v1"
_AS_TEXT = (Address, Prefix, AddressRange, ObjectKey, ObjectRef)


def document(value: Any) -> Any:
    """The plain form of any value of a plan."""
    special = _SPECIAL.get(type(value))
    if special:
        return special(value)
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return {name: document(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): document(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(document, value))
    if isinstance(value, tuple | list):
        return [document(item) for item in value]
    if isinstance(value, int) and value > INT64_MAX:
        # Sizes of IPv6 pools; few readers of JSON know such numbers.
        return str(value)
    return value


def _reason(value: Reason) -> dict[str, Any]:
    return {
        "code": value.code,
        "verdict": value.verdict,
        "text": value.text,
        "remedy": value.remedy,
        "facts": value.facts,
    }


def _problem(value: Problem) -> dict[str, Any]:
    return {
        "code": value.code,
        "severity": value.severity,
        "object": str(value.object),
        "path": value.path,
        "message": value.message,
        "remedy": value.remedy,
        "facts": value.facts,
        "related": [str(item) for item in value.related],
    }


def _route(value: AdvertisedRoute) -> dict[str, Any]:
    return {
        "prefix": str(value.prefix),
        "local_pref": value.local_pref,
        "communities": [format_community(item) for item in value.communities],
        "large_communities": [format_community(item) for item in value.large_communities],
        "extended_communities": [
            format_community(ExtendedCommunity(item)) for item in value.extended_communities
        ],
        "weight": value.weight,
    }


_SPECIAL: dict[type, Any] = {Reason: _reason, Problem: _problem, AdvertisedRoute: _route}


def plan_document(plan: Plan) -> dict[str, Any]:
    """A whole plan. The configuration is left out: it may hold passwords."""
    return {
        "schema": PLAN_SCHEMA,
        "problems": document(plan.problems),
        "pools": document(plan.pools),
        "services": document(plan.services),
        "nodes": document(plan.nodes),
    }


def diff_document(found: PlanDiff) -> dict[str, Any]:
    """The difference of two plans, with how often each class of change occurs."""
    return {"schema": DIFF_SCHEMA, "counts": found.counts, **document(found)}
