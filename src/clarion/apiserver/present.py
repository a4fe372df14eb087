"""Stored bytes in the shape that a client asked for: object, list, table, metadata alone."""

from collections.abc import Iterable, Sequence

from clarion.apiserver.conversion import convert
from clarion.apiserver.registry import Target
from clarion.apiserver.requests import Form
from clarion.apiserver.status import Json
from clarion.apiserver.store import Entry
from clarion.apiserver.table import RowObject, make_table
from clarion.apiserver.wire import decode, encode
from clarion.base.ports import Clock

_ROWS: dict[Form, RowObject] = {
    Form.TABLE: "Metadata",
    Form.FULL_TABLE: "Object",
    Form.BARE_TABLE: "None",
}


class Presenter:
    """Makes answers. Bytes of the stored version are passed on without being decoded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def one(self, target: Target, body: bytes, form: Form, *, headers: bool = True) -> bytes:
        """One object; `headers` false leaves the column definitions out of a table."""
        if form in _ROWS:
            version = decode(body)["metadata"].get("resourceVersion", "")
            metadata = {"resourceVersion": version}
            bodies = [self._version(target, body)]
            now = self._clock.now()
            objects = _ROWS[form]
            table = make_table(target.kind, bodies, metadata, now, headers=headers, objects=objects)
            return encode(table)
        if form is Form.PARTIAL:
            return encode(_partial(decode(body)))
        return self._version(target, body)

    def many(
        self, target: Target, entries: Sequence[Entry], metadata: Json, form: Form
    ) -> Iterable[bytes]:
        """A list, in pieces to be joined."""
        bodies = [self._version(target, entry.body) for entry in entries]
        if form in _ROWS:
            objects, now = _ROWS[form], self._clock.now()
            table = make_table(target.kind, bodies, metadata, now, headers=True, objects=objects)
            return [encode(table)]
        api_version, kind = target.kind.api_version, target.kind.list_kind
        if form is Form.PARTIAL:
            bodies = [encode(_partial(decode(body))) for body in bodies]
            api_version, kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
        head = encode({"kind": kind, "apiVersion": api_version, "metadata": metadata})
        return [head[:-1], b',"items":[', b",".join(bodies), b"]}"]

    @staticmethod
    def _version(target: Target, body: bytes) -> bytes:
        if target.kind is target.resource.stored:
            return body
        return encode(convert(target.resource, decode(body), target.kind))


def _partial(body: Json) -> Json:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": body["metadata"],
    }
