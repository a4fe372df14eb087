"""BGPPeer between its two versions, without loss in either direction.

What the older version cannot hold is kept in an annotation while an object is seen in it, and
absent timers stay absent: a zero would mean a session without keepalives.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from clarion.model.annotations import CONVERSION_DATA
from clarion.model.codec import UndecodableError, decode_any, encode, from_builtins, to_builtins
from clarion.model.meta import JSONObject, KubeObject
from clarion.model.metallb import V1BETA1, V1BETA2, BGPPeer, BGPPeerSpecV1Beta1, BGPPeerV1Beta1

DEFAULT_PORT = 179

_OLD_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(BGPPeerSpecV1Beta1))


def peer_to_v1beta2(old: JSONObject) -> JSONObject:
    """A BGPPeer of v1beta1 as v1beta2, both as plain values.

    What an earlier conversion kept counts only where the older version had no say.
    """
    new: JSONObject = {**old, "apiVersion": V1BETA2}
    kept, meta = _take_kept(old.get("metadata") or {})
    if "metadata" in old:
        new["metadata"] = meta
    if "spec" in old or kept:
        spec = {**kept, **(old.get("spec") or {})}
        if spec.get("peerPort") == 0:
            # v1beta1 spells the default port as zero, which v1beta2 refuses.
            del spec["peerPort"]
        new["spec"] = spec
    return new


def peer_to_v1beta1(new: JSONObject) -> JSONObject:
    """A BGPPeer of v1beta2 as v1beta1, both as plain values."""
    old: JSONObject = {**new, "apiVersion": V1BETA1}
    spec = new.get("spec") or {}
    kept = {name: value for name, value in spec.items() if name not in _OLD_FIELDS}
    if "spec" in new:
        old["spec"] = {name: value for name, value in spec.items() if name in _OLD_FIELDS}
    _, meta = _take_kept(new.get("metadata") or {})  # left over from a copied object
    if "metadata" in new:
        old["metadata"] = meta
    if kept:
        text = encode(dict(sorted(kept.items()))).decode()
        annotations = {**(meta.get("annotations") or {}), CONVERSION_DATA: text}
        old["metadata"] = {**meta, "annotations": annotations}
    return old


def _take_kept(meta: JSONObject) -> tuple[JSONObject, JSONObject]:
    """What an earlier conversion kept, and the metadata without it.

    An annotation that no conversion wrote is left where it is.
    """
    annotations = meta.get("annotations") or {}
    if CONVERSION_DATA not in annotations:
        return {}, meta
    try:
        kept = decode_any(str(annotations[CONVERSION_DATA]).encode())
    except UndecodableError:
        return {}, meta
    if not isinstance(kept, dict) or not kept or _OLD_FIELDS & kept.keys():
        return {}, meta
    rest = {key: value for key, value in annotations.items() if key != CONVERSION_DATA}
    bare = {key: value for key, value in meta.items() if key != "annotations"}
    return kept, {**bare, "annotations": rest} if rest else bare


_CONVERSIONS: dict[tuple[str, str], Callable[[JSONObject], JSONObject]] = {
    (V1BETA1, V1BETA2): peer_to_v1beta2,
    (V1BETA2, V1BETA1): peer_to_v1beta1,
}


def convert_peer(peer: JSONObject, api_version: str) -> JSONObject:
    """A BGPPeer in the wanted version, as plain values.

    Raises:
        UndecodableError: one of the versions is not known, or it is no BGPPeer.
    """
    source: Any = peer.get("apiVersion")
    if peer.get("kind", "BGPPeer") != "BGPPeer":
        raise UndecodableError(f"{peer['kind']} is no kind with several versions")
    for part in (peer.get("metadata"), peer.get("spec"), _annotations(peer)):
        if not isinstance(part, dict | None):
            raise UndecodableError("metadata, annotations or spec of a BGPPeer is no object")
    if source == api_version:
        return peer
    conversion = _CONVERSIONS.get((source, api_version))
    if conversion is None:
        raise UndecodableError(f"BGPPeer cannot be converted from {source} to {api_version}")
    return conversion(peer)


def _annotations(peer: JSONObject) -> object:
    meta = peer.get("metadata")
    return meta.get("annotations") if isinstance(meta, dict) else None


def to_hub(obj: KubeObject) -> KubeObject:
    """The object in the version that decisions read: the stored one."""
    if not isinstance(obj, BGPPeerV1Beta1):
        return obj
    return from_builtins(peer_to_v1beta2(to_builtins(obj)), BGPPeer)
