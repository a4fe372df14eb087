"""JSON bytes of this API: to and from plain dicts, and the few metadata fields the store reads.

Bodies are kept and passed on as bytes; only what a rule needs is decoded.
"""

from typing import Any

import msgspec

from clarion.apiserver.status import Json, bad_request

encode = msgspec.json.Encoder().encode
"""Any JSON value to bytes."""

_decode = msgspec.json.Decoder().decode


def decode(body: bytes) -> Any:
    """Bytes that this API wrote itself back to a value."""
    return _decode(body)


def decode_object(body: bytes) -> Json:
    """Bytes from a client to a JSON object.

    Raises:
        ApiError: 400, not JSON or not an object.
    """
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"the body of the request is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad_request("the body of the request must be a JSON object")
    return value


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    """The owner of an object, as the collector of dependents reads it."""

    uid: str = ""
    block_owner_deletion: bool = False


class StoredMeta(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata that lists, watches and the collector read of every object."""

    uid: str = ""
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None


class _Holder(msgspec.Struct, frozen=True):
    metadata: StoredMeta = StoredMeta()


_meta_decoder = msgspec.json.Decoder(_Holder)


def read_meta(body: bytes) -> StoredMeta:
    """The metadata of a stored body."""
    return _meta_decoder.decode(body).metadata
