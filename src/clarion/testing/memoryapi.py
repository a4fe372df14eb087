"""An API in memory behind the client's interface: objects, merge patches, conflicts, refusals.

What the writes changed is seen by a follower only when the test lets it see: `deliver`.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from clarion.edge.credentials import Identity, StaticCredentials
from clarion.edge.kubeclient import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    KubeClient,
    NotFoundError,
    PatchType,
    Selection,
)
from clarion.edge.kubeconfig import KubeConfig
from clarion.model import codec
from clarion.model.kinds import Kind
from clarion.model.meta import KubeObject, ObjectKey

O = TypeVar("O", bound=KubeObject)  # noqa: E741 - an object
Slot = tuple[type[KubeObject], ObjectKey]
Change = Callable[[type[KubeObject], ObjectKey, KubeObject | None], None]


class Call(msgspec.Struct, frozen=True):
    """One request."""

    verb: str
    kind: str
    key: ObjectKey
    body: Any = None


class MemoryClient(KubeClient):
    """A client whose server is a dictionary.

    Attributes:
        calls: Every write, refused ones too.
        refusals: The next writes meet these, one each; None lets one through.
        before_write: Called before each write with its call: what happens meanwhile.
    """

    def __init__(self) -> None:
        super().__init__(KubeConfig("http://127.0.0.1:9", StaticCredentials(Identity())))
        self.objects: dict[Slot, dict[str, Any]] = {}
        self.calls: list[Call] = []
        self.refusals: deque[ApiError | None] = deque()
        self.before_write: Callable[[Call], None] | None = None
        self._version = 0
        self._changed: dict[Slot, None] = {}

    # --- the test's side ---

    def put(self, obj: KubeObject) -> None:
        """Somebody stores an object."""
        key = obj.key
        self._store((type(obj), key), _plain(obj))

    def change(self, of: type[KubeObject], key: ObjectKey, patch: dict[str, Any]) -> None:
        """Somebody patches an object."""
        self._store((of, key), merged(self.objects[of, key], patch))

    def drop(self, of: type[KubeObject], key: ObjectKey) -> None:
        """Somebody deletes an object."""
        del self.objects[of, key]
        self._changed[of, key] = None

    def read(self, of: type[O], key: ObjectKey) -> O:
        """An object as it is stored."""
        return codec.decode(codec.encode(self.objects[of, key]), of)

    def deliver(self, change: Change) -> bool:
        """Tell a follower what changed since the last time; whether anything did."""
        changed, self._changed = self._changed, {}
        for of, key in changed:
            change(of, key, self.read(of, key) if (of, key) in self.objects else None)
        return bool(changed)

    # --- the client's side ---

    async def get(self, of: type[O], key: ObjectKey) -> O:
        """One object."""
        self._find((of, key))
        return self.read(of, key)

    async def list_page(
        self, kind: Kind, selection: Selection, limit: int, token: str = ""
    ) -> bytes:
        """All objects of a kind, in one page."""
        del selection, limit, token
        items = [plain for (of, _), plain in self.objects.items() if of is kind.struct]
        version = {"resourceVersion": str(self._version or 1)}
        return codec.encode({"kind": kind.list_kind, "metadata": version, "items": items})

    async def create(self, obj: O, *, dry_run: bool = False) -> O:
        """A new object; a status in it is not taken."""
        del dry_run
        self._write(Call("create", obj.kind, obj.key, _plain(obj)))
        slot = type(obj), obj.key
        if slot in self.objects:
            raise AlreadyExistsError(409, "AlreadyExists", f"{obj.key} exists")
        self._store(slot, {**_plain(obj), "status": {}})
        return self.read(type(obj), obj.key)

    async def patch(
        self,
        of: type[O],
        key: ObjectKey,
        patch: object,
        *,
        how: PatchType = PatchType.MERGE,
        subresource: str = "",
        field_manager: str = "clarion",
        force: bool = False,
        dry_run: bool = False,
    ) -> O:
        """Merge a patch, unless it is for another version."""
        del how, subresource, field_manager, force, dry_run
        plain = _plain(patch)
        self._write(Call("patch", of.__name__, key, plain))
        stored = self._find((of, key))
        version = plain.get("metadata", {}).get("resourceVersion")
        if version not in (None, stored["metadata"]["resourceVersion"]):
            raise ConflictError(409, "Conflict", f"{key} was changed")
        self._store((of, key), merged(stored, plain))
        return self.read(of, key)

    async def delete(
        self, of: type[KubeObject], key: ObjectKey, *, uid: str = "", version: str = ""
    ) -> None:
        """Delete an object."""
        del uid, version
        self._write(Call("delete", of.__name__, key))
        self._find((of, key))
        self.drop(of, key)

    def _write(self, call: Call) -> None:
        self.calls.append(call)
        if self.before_write is not None:
            self.before_write(call)
        refusal = self.refusals.popleft() if self.refusals else None
        if refusal is not None:
            raise refusal

    def _find(self, slot: Slot) -> dict[str, Any]:
        if slot not in self.objects:
            raise NotFoundError(404, "NotFound", f"no {slot[0].__name__} {slot[1]}")
        return self.objects[slot]

    def _store(self, slot: Slot, plain: dict[str, Any]) -> None:
        self._version += 1
        named = {"resourceVersion": str(self._version), "uid": f"uid of {slot[1]}"}
        self.objects[slot] = merged(plain, {"metadata": named})
        self._changed[slot] = None


def _plain(value: object) -> Any:
    return msgspec.json.decode(codec.encode(value))


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386) applied."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
