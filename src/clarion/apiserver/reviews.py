"""Requests that only ask: who am I, and may I.

Whoever reaches this API (over loopback, or with the token) may do everything; so says the answer.
"""

from aiohttp import web

from clarion.apiserver.discovery import REVIEWS
from clarion.apiserver.handlers import read_body
from clarion.apiserver.status import Json, method_not_allowed

_USER = "clarion-admin"
_GROUPS = ["system:masters", "system:authenticated"]


async def answer(request: web.Request) -> Json | None:
    """The review with its answer; None if the path is something else.

    Raises:
        ApiError: 400 or 405.
    """
    parts = request.path.strip("/").split("/")
    if len(parts) != 4 or parts[0] != "apis" or parts[2] != "v1":
        return None
    kind = REVIEWS.get((parts[1], parts[3]))
    if kind is None:
        return None
    if request.method != "POST":
        raise method_not_allowed(request.method)
    review = await read_body(request)
    review |= {"kind": kind, "apiVersion": f"{parts[1]}/v1", "status": _status(kind)}
    review.setdefault("metadata", {})
    return review


def _status(kind: str) -> Json:
    match kind:
        case "SelfSubjectAccessReview":
            return {"allowed": True, "reason": "this API has one user, who may do everything"}
        case "SelfSubjectRulesReview":
            every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            paths = {"verbs": ["*"], "nonResourceURLs": ["*"]}
            return {"resourceRules": [every], "nonResourceRules": [paths], "incomplete": False}
    return {"userInfo": {"username": _USER, "groups": _GROUPS}}
