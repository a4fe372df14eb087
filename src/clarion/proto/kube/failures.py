"""Failures of list and watch, sorted by what can be done about them."""

from enum import StrEnum
from typing import Final

import msgspec


class RequestFailed(msgspec.Struct, frozen=True, tag=True):
    """The list or watch request was answered by an error, or (status 0) not answered."""

    status: int
    reason: str = ""
    message: str = ""
    retry_after: float = 0.0


class TroubleCode(StrEnum):
    """What keeps the reflector from following the server."""

    UNREACHABLE = "unreachable"  # no answer
    THROTTLED = "throttled"  # the server asked us to wait
    SERVER_ERROR = "server-error"  # the server failed
    REFUSED = "refused"  # our credentials or rights do not suffice
    KIND_MISSING = "kind-missing"  # the server does not know the kind: its definition was removed
    EXPIRED = "expired"  # the version to go on from is compacted: not a fault, told for the record
    MALFORMED = "malformed"  # what was sent is not list or watch
    REJECTED = "rejected"  # any other refusal
    STREAM_CUT = "stream-cut"  # streams end as soon as they begin


_EXPIRED_REASONS: Final = frozenset({"Expired", "Gone"})


def code_of(failure: RequestFailed) -> TroubleCode:
    """Sort a failure by what can be done about it."""
    status = failure.status
    if status == 410 or failure.reason in _EXPIRED_REASONS:
        return TroubleCode.EXPIRED
    if status == 0:
        return TroubleCode.UNREACHABLE
    if status in (401, 403):
        return TroubleCode.REFUSED
    if status == 404:
        return TroubleCode.KIND_MISSING
    if status == 429:
        return TroubleCode.THROTTLED
    return TroubleCode.SERVER_ERROR if status >= 500 else TroubleCode.REJECTED


def version_too_new(failure: RequestFailed) -> bool:
    """Whether the server is behind the version we hold, as after a restore from a backup."""
    return failure.status == 504 and "too large resource version" in failure.message.lower()
