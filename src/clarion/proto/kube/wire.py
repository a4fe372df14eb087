"""The bytes of list and watch: pages, lines, the Status object, and the metadata of any object.

Only the envelope is read here. What is inside an object is the business of the decoder that the
caller hands to the reflector.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

import msgspec

from clarion.base.errors import DecodeError

T = TypeVar("T")

Key: TypeAlias = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""


class Decoded(msgspec.Struct, Generic[T], frozen=True):
    """One object as the decoder understood it."""

    key: Key
    version: str
    value: T
    uid: str = ""


Decode: TypeAlias = Callable[[bytes | msgspec.Raw], Decoded[T]]
"""Reads one object; raises `DecodeError` when it is not of the expected form."""


class StatusCause(msgspec.Struct, frozen=True):
    """One of the reasons a Status gives, with the field it is about."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """The machine-readable part of a Status."""

    name: str = ""
    kind: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: float = 0.0


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """meta/v1 Status: how the API server says that something did not go well."""

    kind: str = ""
    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None

    @property
    def causes(self) -> tuple[StatusCause, ...]:
        """The causes, empty when there are none."""
        return self.details.causes if self.details else ()

    @property
    def retry_after(self) -> float:
        """Seconds the server asks to wait, 0 when it does not."""
        return self.details.retry_after_seconds if self.details else 0.0


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of ObjectMeta that list and watch need."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Bare(msgspec.Struct, frozen=True):
    metadata: Metadata = Metadata()


class _ListMetadata(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    token: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct, frozen=True):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None  # a server in Go writes an empty list as null


class Frame(msgspec.Struct, frozen=True):
    """One line of a watch: what happened, and the object still as bytes."""

    type: str
    object: msgspec.Raw


class Page(msgspec.Struct, frozen=True):
    """One page of a list, its items still as bytes."""

    items: list[msgspec.Raw]
    version: str
    token: str


# Deep nesting ends in a RecursionError.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_list_decoder = msgspec.json.Decoder(_List)
_frame_decoder = msgspec.json.Decoder(Frame)
_bare_decoder = msgspec.json.Decoder(_Bare)
_status_decoder = msgspec.json.Decoder(Status)


def decode_page(body: bytes) -> Page:
    """The envelope of a list.

    Raises:
        DecodeError: not JSON, not a list, or without a resourceVersion to watch from.
    """
    try:
        envelope = _list_decoder.decode(body)
    except _UNREADABLE as error:
        raise DecodeError(f"the answer is not a list: {error}") from error
    version = envelope.metadata.resource_version
    if version in ("", "0"):
        raise DecodeError("the list carries no resourceVersion")
    return Page(envelope.items or [], version, envelope.metadata.token)


def decode_frame(line: bytes) -> Frame:
    """One watch line.

    Raises:
        DecodeError: not JSON, or not an object with `type` and `object`.
    """
    try:
        return _frame_decoder.decode(line)
    except _UNREADABLE as error:
        raise DecodeError(f"the watch line cannot be read: {error}") from error


def decode_metadata(raw: bytes | msgspec.Raw) -> Metadata:
    """Name, namespace and version of any object.

    Raises:
        DecodeError: not an object, or the metadata is not of the usual form.
    """
    try:
        return _bare_decoder.decode(raw).metadata
    except _UNREADABLE as error:
        raise DecodeError(f"the object's metadata cannot be read: {error}") from error


def decode_status(raw: bytes | msgspec.Raw) -> Status | None:
    """The Status in an error body; None when the body is something else, say a proxy's page."""
    try:
        status = _status_decoder.decode(raw)
    except _UNREADABLE:
        return None
    return status if status.kind == "Status" else None


def older(version: str, than: str) -> bool:
    """Whether a version is older than another; never so where they are not both numbers."""
    return version.isdecimal() and than.isdecimal() and int(version) < int(than)


def named(key: Key) -> Key:
    """The same key.

    Raises:
        DecodeError: it has no name.
    """
    if not key[1]:
        raise DecodeError("the object has no name")
    return key


class LineSplitter:
    """Cuts a byte stream into lines. What follows the last newline is kept for the next chunk.

    Args:
        limit: The longest line in bytes; beyond it the stream cannot be a watch.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines completed by this chunk, without their newline; empty lines are left out.

        Raises:
            DecodeError: a line is longer than the limit.
        """
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk[start:end])
            line = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            start = end + 1
            if line.strip():
                yield line
        self._keep(chunk[start:])

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._size > self._limit:
            raise DecodeError(f"a watch line is longer than {self._limit} bytes")
        self._parts.append(part)
