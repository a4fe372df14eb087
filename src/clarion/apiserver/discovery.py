"""What the API tells about itself: versions, groups and resources, plain and aggregated."""

from functools import cache

from clarion.apiserver.resources import STANDARD_VERBS, Resource, groups, resources
from clarion.apiserver.status import Json
from clarion.model.kinds import Kind

# The Kubernetes version whose behaviour this API follows; kubectl compares it with its own.
MAJOR, MINOR, PATCH = "1", "37", "0"

REVIEWS = {
    ("authorization.k8s.io", "selfsubjectaccessreviews"): "SelfSubjectAccessReview",
    ("authorization.k8s.io", "selfsubjectrulesreviews"): "SelfSubjectRulesReview",
    ("authentication.k8s.io", "selfsubjectreviews"): "SelfSubjectReview",
}
"""Resources that are only asked, never stored."""

_STATUS_VERBS = ["get", "patch", "update"]


def version(product: str) -> Json:
    """The answer to /version."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": f"v{MAJOR}.{MINOR}.{PATCH}+clarion-{product}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux",
    }


@cache
def all_groups() -> dict[str, tuple[str, ...]]:
    """Every named group with its versions, the reviews' groups included."""
    found = {group: versions for group, versions in groups().items() if group}
    for group, _ in REVIEWS:
        found.setdefault(group, ("v1",))
    return found


def core_versions() -> Json:
    """The answer to /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def group_list() -> Json:
    """The answer to /apis."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(group, versions) for group, versions in all_groups().items()],
    }


def group(name: str) -> Json | None:
    """The answer to /apis/GROUP; None if there is no such group."""
    versions = all_groups().get(name)
    if versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: tuple[str, ...]) -> Json:
    listed = [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _served(group_name: str, version_name: str) -> list[tuple[Resource, Kind]]:
    return [
        (resource, resource.versions[version_name])
        for resource in resources().values()
        if resource.group == group_name and version_name in resource.versions
    ]


def resource_list(group_name: str, version_name: str) -> Json | None:
    """The answer to /api/v1 and /apis/GROUP/VERSION; None if that is not served."""
    rows: list[Json] = []
    for resource, kind in _served(group_name, version_name):
        row: Json = {
            "name": resource.plural,
            "singularName": kind.singular,
            "namespaced": resource.namespaced,
            "kind": kind.kind,
            "verbs": list(STANDARD_VERBS),
        }
        if kind.short_names:
            row["shortNames"] = list(kind.short_names)
        if resource.categories:
            row["categories"] = list(resource.categories)
        rows.append(row)
        if resource.has_status:
            rows.append(
                {
                    "name": f"{resource.plural}/status",
                    "singularName": "",
                    "namespaced": resource.namespaced,
                    "kind": kind.kind,
                    "verbs": _STATUS_VERBS,
                }
            )
    for (review_group, plural), kind_name in REVIEWS.items():
        if review_group == group_name and version_name == "v1":
            rows.append(
                {
                    "name": plural,
                    "singularName": kind_name.lower(),
                    "namespaced": False,
                    "kind": kind_name,
                    "verbs": ["create"],
                }
            )
    if not rows:
        return None
    shown = f"{group_name}/{version_name}" if group_name else version_name
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": shown,
        "resources": sorted(rows, key=lambda row: str(row["name"])),
    }


def aggregated(group_names: tuple[str, ...]) -> Json:
    """The whole of /api or /apis in one answer (`apidiscovery.k8s.io/v2`)."""
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [_group_discovery(name) for name in group_names],
    }


def _group_discovery(name: str) -> Json:
    versions = all_groups()[name] if name else ("v1",)
    return {
        "metadata": {"name": name, "creationTimestamp": None} if name else {},
        "versions": [
            {
                "version": one,
                "freshness": "Current",
                "resources": _resource_discovery(name, one),
            }
            for one in versions
        ],
    }


def _resource_discovery(group_name: str, version_name: str) -> list[Json]:
    listed = resource_list(group_name, version_name)
    assert listed is not None, "the groups are those that have resources"
    found: dict[str, Json] = {}
    for row in listed["resources"]:
        plural, _, sub = row["name"].partition("/")
        response = {"group": group_name, "version": version_name, "kind": row["kind"]}
        if sub:
            found[plural]["subresources"] = [
                {"subresource": sub, "responseKind": response, "verbs": row["verbs"]}
            ]
            continue
        found[plural] = {
            "resource": plural,
            "responseKind": response,
            "scope": "Namespaced" if row["namespaced"] else "Cluster",
            "singularResource": row["singularName"],
            "verbs": row["verbs"],
        }
        for field in ("shortNames", "categories"):
            if field in row:
                found[plural][field] = row[field]
    return list(found.values())
