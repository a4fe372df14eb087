"""The rules under which objects come to be, change and go.

Each operation is one step on the event loop: it reads the latest state (writes not yet on the disk
included), decides, and stages the write. It awaits only the disk. So no two operations ever see
each other half done, and no lock is needed.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from clarion.apiserver import fields, metadata, validate
from clarion.apiserver.conversion import convert
from clarion.apiserver.kindrules import PROTECTED_NAMESPACES, KindRules
from clarion.apiserver.resources import Resource, core
from clarion.apiserver.status import (
    ApiError,
    Cause,
    Json,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    modified,
    not_found,
    strict_decoding,
    too_large,
)
from clarion.apiserver.store import ChangeType, Entry, Key, Staged, Store
from clarion.apiserver.wire import decode, encode
from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.model.kinds import Kind

FieldValidation = Literal["Ignore", "Warn", "Strict"]
Propagation = Literal["Background", "Foreground", "Orphan"]

SELF = "clarion-apiserver"
"""The field manager of what the API does by itself."""

# Kubelets report in as they create their node; pods are only stored here, by whoever knows them.
_CREATED_WITH_STATUS = ("nodes", "pods")

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Target(msgspec.Struct, frozen=True):
    """What a request is about: a resource in one version, and one object or namespace of it."""

    resource: Resource
    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> Key:
        """Where the object is stored."""
        return Key(self.resource.id, self.namespace, self.name)


class WriteOptions(msgspec.Struct, frozen=True):
    """Parameters of create, update and patch."""

    dry_run: bool = False
    validation: FieldValidation = "Warn"
    manager: str = "unknown"
    patching: bool = False


class DeleteOptions(msgspec.Struct, frozen=True, rename="camel"):
    """Body or parameters of a deletion."""

    uid: str = ""
    resource_version: str = ""
    propagation: Propagation = "Background"
    dry_run: bool = False


class Result(msgspec.Struct, frozen=True):
    """The object as it is now, in the stored version, and what to warn about."""

    body: bytes
    created: bool = False
    gone: bool = False
    warnings: tuple[str, ...] = ()


class Admission(Protocol):
    """The configuration rules that are the same in every part of Clarion."""

    def admit(self, resource: Resource, key: Key, new: Json, old: Json | None) -> list[Cause]:
        """What speaks against writing `new` over `old`; empty when nothing does."""
        ...


class Registry:
    """Create, update, patch and delete for every resource."""

    def __init__(
        self,
        store: Store,
        rules: KindRules,
        admission: Admission,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._rules = rules
        self._admission = admission
        self._clock = clock
        self._entropy = entropy

    def _author(self, target: Target, options: WriteOptions) -> fields.Author:
        """Who writes; fields are always those of the stored version."""
        version = target.resource.stored.api_version
        return fields.Author(options.manager, version, target.subresource, self.now())

    def now(self) -> str:
        """The time as metadata holds it."""
        return metadata.timestamp(self._clock.now())

    # Creating.

    async def create(self, target: Target, body: Json, options: WriteOptions) -> Result:
        """Store a new object.

        Raises:
            ApiError: refused.
        """
        meta = metadata.metadata_of(body)
        self._require_namespace(target, meta)
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        metadata.strip_server_fields(meta)
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if generated:
            meta["name"] = self._generated_name(target.resource, meta["generateName"])
        name = meta.get("name", "")
        target = msgspec.structs.replace(target, name=name if isinstance(name, str) else "")
        return await self._create(target, body, options)

    async def _create(self, target: Target, body: Json, options: WriteOptions) -> Result:
        resource = target.resource
        new = self._to_stored(target, body)
        if resource.has_status and resource.plural not in _CREATED_WITH_STATUS:
            new.pop("status", None)
        new, warnings, causes = self._check(target, new, None, options)
        meta = new["metadata"]
        meta["uid"] = self._entropy.uid()
        meta["creationTimestamp"] = self.now()
        if resource.counts_generation:
            meta["generation"] = 1
        self._complete(target, new, None, causes, warnings)
        if self._store.latest(target.key) is not None:
            raise already_exists(target.resource.name, target.name)
        body_bytes, staged = self._stage(ChangeType.ADDED, target, new, options)
        if staged is not None:
            await staged.durable()
        return Result(body_bytes, created=True, warnings=tuple(warnings))

    def _generated_name(self, resource: Resource, base: str) -> str:
        if not isinstance(base, str):
            raise bad_request("metadata.generateName must be a string")
        longest = 63 if resource.plural in ("services", "namespaces") else 253
        base = base[: longest - metadata.GENERATED_LENGTH]
        return base + self._entropy.token(metadata.GENERATED_LENGTH)

    def _require_namespace(self, target: Target, meta: Json) -> None:
        if not target.resource.namespaced:
            meta.pop("namespace", None)
            return
        given = meta.setdefault("namespace", target.namespace)
        if given != target.namespace:
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the "
                f"request: {given} is not {target.namespace}"
            )
        place = Key("namespaces", "", target.namespace)
        namespace = self._store.latest(place)
        if namespace is None:
            raise not_found_namespace(target.namespace)
        if namespace.meta.deletion_timestamp:
            raise forbidden(
                target.resource.name,
                str(meta.get("name", "")),
                f"unable to create new content in namespace {target.namespace} because it is "
                "being terminated",
                [Cause("metadata.namespace", "namespace is terminating", "NamespaceTerminating")],
            )

    # Changing.

    async def update(self, target: Target, body: Json, options: WriteOptions) -> Result:
        """Replace an object, or its status.

        Raises:
            ApiError: refused.
        """
        meta = metadata.metadata_of(body)
        _require_place(target, meta)
        current = self._store.latest(target.key)
        if current is None:
            if target.resource.created_by_update and not target.subresource:
                meta.pop("resourceVersion", None)
                return await self.create(target, body, options)
            raise not_found(target.resource.name, target.name)
        if target.resource.updated_by_version_only and not meta.get("resourceVersion"):
            cause = Cause("metadata.resourceVersion", "Invalid value: 0: needed for an update")
            raise invalid(target.resource.kind, target.resource.name, target.name, [cause])
        return await self._change(target, current, self._to_stored(target, body), options)

    async def patch(
        self,
        target: Target,
        change: Callable[[Json], Json],
        options: WriteOptions,
    ) -> Result:
        """Change an object by a function of its current state, in the version of the request.

        Raises:
            ApiError: refused.
        """
        current = self._store.latest(target.key)
        if current is None:
            raise not_found(target.resource.name, target.name)
        seen = convert(target.resource, decode(current.body), target.kind)
        changed = change(seen)
        meta = metadata.metadata_of(changed)
        _require_place(target, meta)
        if meta.get("uid", current.meta.uid) != current.meta.uid:
            cause = Cause("metadata.uid", f'Invalid value: "{meta["uid"]}": field is immutable')
            raise invalid(target.resource.kind, target.resource.name, target.name, [cause])
        return await self._change(target, current, self._to_stored(target, changed), options)

    async def maintain(self, target: Target, change: Callable[[Json], Json]) -> None:
        """A change by the API itself: references, finalizers, built-in definitions.

        Raises:
            ApiError: refused.
        """
        await self.patch(target, change, WriteOptions(validation="Ignore", manager=SELF))

    async def finalize_namespace(self, target: Target) -> None:
        """Take the namespace's own finalizer: its content is gone.

        Raises:
            ApiError: refused.
        """

        def change(body: Json) -> Json:
            body["spec"] = {}
            return body

        target = msgspec.structs.replace(target, subresource="finalize")
        await self.patch(target, change, WriteOptions(validation="Ignore", manager=SELF))

    async def apply(
        self, target: Target, configuration: Json, options: WriteOptions, *, force: bool
    ) -> Result:
        """Server-side apply: make the manager's fields be as configured, and only those.

        Raises:
            ApiError: refused, or in conflict with other managers.
        """
        stored = target.resource.stored
        if configuration.get("apiVersion") is None or configuration.get("kind") is None:
            raise bad_request("an applied object must say its apiVersion and kind")
        given = metadata.metadata_of(configuration)
        _require_place(target, given)
        if given.get("managedFields") is not None:
            raise bad_request("metadata.managedFields must be nil")
        found = validate.check_part(stored, self._to_stored(target, configuration))
        if found.unknown:
            # Nobody can manage a field that does not exist, so there is no way to apply it.
            raise bad_request(f"fields not declared in the schema: {', '.join(found.unknown)}")
        if found.causes:
            raise invalid(stored.kind, target.resource.name, target.name, found.causes)
        applied = found.body
        current = self._store.latest(target.key)
        old = decode(current.body) if current is not None else None
        new = fields.apply(
            validate.schema_of(stored),
            old,
            applied,
            self._author(target, options),
            force=force,
        )
        if current is None:
            if target.subresource:
                raise not_found(target.resource.name, target.name)
            self._require_namespace(target, metadata.metadata_of(new))
            return await self._create(target, new, options)
        return await self._change(target, current, new, options, applying=True)

    async def _change(
        self,
        target: Target,
        current: Entry,
        new: Json,
        options: WriteOptions,
        *,
        applying: bool = False,
    ) -> Result:
        resource = target.resource
        old = decode(current.body)
        meta = new["metadata"]
        self._require_same(target, current, meta)
        new = _merge_parts(target, new, old)
        new, warnings, causes = self._check(target, new, old, options)
        meta = new["metadata"]
        metadata.keep_server_fields(meta, old["metadata"])
        self._complete(target, new, old, causes, warnings)
        meta["resourceVersion"] = str(current.revision)
        if not applying:
            fields.track(
                validate.schema_of(resource.stored), old, new, self._author(target, options)
            )
        if fields.same(new, old):
            return Result(current.body, warnings=tuple(warnings))
        if resource.counts_generation and not target.subresource and _wanted(new) != _wanted(old):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        last = bool(meta.get("deletionTimestamp")) and not meta.get("finalizers")
        step = ChangeType.DELETED if last and not _held_open(resource, new) else ChangeType.MODIFIED
        body, staged = self._stage(step, target, new, options)
        if staged is not None:
            await staged.durable()
        return Result(body, warnings=tuple(warnings))

    def _require_same(self, target: Target, current: Entry, meta: Json) -> None:
        """Optimistic concurrency: the client may say which version or object it means."""
        version = meta.get("resourceVersion")
        if version not in (None, "", str(current.revision)):
            raise modified(target.resource.name, target.name)
        uid = meta.get("uid")
        if uid not in (None, "", current.meta.uid):
            raise conflict(
                target.resource.name,
                target.name,
                f"Precondition failed: UID in precondition: {uid}, "
                f"UID in object meta: {current.meta.uid}",
            )

    # Steps that creating and changing share.

    def _to_stored(self, target: Target, body: Json) -> Json:
        """Check apiVersion and kind against the path, and convert to the stored version."""
        if target.kind.custom and not (body.get("apiVersion") and body.get("kind")):
            raise bad_request(
                "the object provided is unrecognized: it must say its apiVersion and kind "
                f"({target.kind.api_version}, {target.kind.kind})"
            )
        api_version = body.setdefault("apiVersion", target.kind.api_version)
        kind = body.setdefault("kind", target.kind.kind)
        if target.kind.custom and kind != target.kind.kind:
            cause = Cause("kind", f'Invalid value: "{kind}": must be {target.kind.kind}')
            raise invalid(str(kind), target.resource.name, target.name, [cause])
        if (api_version, kind) != (target.kind.api_version, target.kind.kind):
            raise bad_request(
                f"the object provided is unrecognized: {kind} of {api_version} is not "
                f"{target.kind.kind} of {target.kind.api_version}"
            )
        return convert(target.resource, body, target.resource.stored)

    def _check(
        self, target: Target, new: Json, old: Json | None, options: WriteOptions
    ) -> tuple[Json, list[str], list[Cause]]:
        """Defaults, schema and unknown fields; gives back the object, warnings and faults."""
        kind = target.resource.stored
        findings = validate.check(kind, new, old)
        new = findings.body
        if not kind.custom:
            self._require_types(kind, findings.causes, options)
        unknown = [f'unknown field "{name}"' for name in findings.unknown]
        if unknown and options.validation == "Strict":
            raise strict_decoding(kind.kind, kind.version, unknown, patching=options.patching)
        warnings = unknown if options.validation == "Warn" else []
        if target.kind.deprecated:
            warnings.insert(0, target.kind.deprecation_warning)
        if findings.causes:
            raise invalid(kind.kind, target.resource.name, target.name, findings.causes)
        if kind.custom:
            warnings += metadata.warn(new["metadata"], old["metadata"] if old is not None else {})
        causes = metadata.check(target.resource, new["metadata"])
        if old is not None and old["metadata"].get("deletionTimestamp"):
            causes += _new_finalizers(new["metadata"], old["metadata"])
        return new, warnings, causes

    @staticmethod
    def _require_types(kind: Kind, causes: Sequence[Cause], options: WriteOptions) -> None:
        """Kubernetes decodes its own kinds before it validates: a wrong type is no object at all.

        A patch is refused as such then, with the cause beside it.
        """
        wrong = [cause for cause in causes if cause.reason == "FieldValueTypeInvalid"]
        if wrong and not options.patching:
            told = ", ".join(map(str, wrong))
            where = f'{kind.kind} in version "{kind.version}"'
            raise bad_request(f"{where} cannot be handled as a {kind.kind}: {told}")

    def _complete(
        self,
        target: Target,
        new: Json,
        old: Json | None,
        causes: Sequence[Cause],
        warnings: list[str],
    ) -> None:
        """Rules of the kind, then the configuration rules.

        Raises:
            ApiError: 422 with everything that is wrong.
        """
        more, warned = self._rules.prepare(target.resource, target.key, new, old)
        warnings += warned
        causes = [*causes, *more]
        if not causes and not target.subresource and not new["metadata"].get("deletionTimestamp"):
            causes = self._admission.admit(target.resource, target.key, new, old)
        if causes:
            raise invalid(target.resource.kind, target.resource.name, target.name, causes)
        metadata.tidy(new["metadata"])

    def _stage(
        self, step: ChangeType, target: Target, new: Json, options: WriteOptions
    ) -> tuple[bytes, Staged | None]:
        if options.dry_run:
            if step is ChangeType.ADDED:
                new["metadata"].pop("resourceVersion", None)
            return encode(new), None
        new["metadata"]["resourceVersion"] = str(self._store.next_revision)
        body = encode(new)
        if len(body) > limits.API_OBJECT_BYTES:
            raise too_large(limits.API_OBJECT_BYTES)
        return body, self._store.stage(step, target.key, body)

    # Deleting.

    async def delete(self, target: Target, options: DeleteOptions) -> Result:
        """Delete an object, or mark it for deletion while it has finalizers.

        Raises:
            ApiError: refused.
        """
        current = self._store.latest(target.key)
        if current is None:
            raise not_found(target.resource.name, target.name)
        self._check_preconditions(target, current, options)
        if target.resource.plural == "customresourcedefinitions":
            raise forbidden(target.resource.name, target.name, "this kind is built in")
        if target.resource.plural == "namespaces" and target.name in PROTECTED_NAMESPACES:
            raise forbidden(target.resource.name, target.name, "this namespace may not be deleted")
        body = decode(current.body)
        meta = body["metadata"]
        finalizers = list(meta.get("finalizers", []))
        extra = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.propagation)
        if extra is not None and extra not in finalizers:
            finalizers.append(extra)
        waits = bool(finalizers) or target.resource.plural == "namespaces"
        write = WriteOptions(dry_run=options.dry_run)
        if not waits:
            encoded, staged = self._stage(ChangeType.DELETED, target, body, write)
        else:
            if meta.get("deletionTimestamp") and finalizers == meta.get("finalizers", []):
                return Result(current.body)
            self._mark(target.resource, body, finalizers)
            encoded, staged = self._stage(ChangeType.MODIFIED, target, body, write)
        if staged is not None:
            await staged.durable()
        return Result(encoded, gone=not waits)

    def _mark(self, resource: Resource, body: Json, finalizers: list[str]) -> None:
        meta = body["metadata"]
        if finalizers:
            meta["finalizers"] = finalizers
        if not meta.get("deletionTimestamp"):
            meta["deletionTimestamp"] = self.now()
            if resource.plural != "namespaces":
                meta["deletionGracePeriodSeconds"] = 0
            if resource.counts_generation:
                meta["generation"] = meta.get("generation", 0) + 1
        if resource.plural == "namespaces":
            body.setdefault("status", {})["phase"] = "Terminating"

    def _check_preconditions(self, target: Target, current: Entry, options: DeleteOptions) -> None:
        for what, wanted, found in (
            ("UID", options.uid, current.meta.uid),
            ("ResourceVersion", options.resource_version, str(current.revision)),
        ):
            if wanted and wanted != found:
                raise conflict(
                    target.resource.name,
                    target.name,
                    f"Precondition failed: {what} in precondition: {wanted}, "
                    f"{what} in object meta: {found}",
                )


def _require_place(target: Target, meta: Json) -> None:
    """The object is the one on the URL; what it does not say itself is filled in."""
    if meta.setdefault("name", target.name) != target.name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL "
            f"({target.name})"
        )
    if target.resource.namespaced and meta.setdefault("namespace", target.namespace) != (
        target.namespace
    ):
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def not_found_namespace(name: str) -> ApiError:
    """404 for the namespace that an object shall be created in."""
    return not_found(core("namespaces").name, name)


def _merge_parts(target: Target, new: Json, old: Json) -> Json:
    """The main resource cannot write status, the status subresource nothing else.

    As in Kubernetes, the status of the built-in kinds may bring metadata along (node and service
    controllers do that); for custom resources it may not.
    """
    resource = target.resource
    if target.subresource == "status":
        result = dict(old)
        if "status" in new:
            result["status"] = new["status"]
        else:
            result.pop("status", None)
        result["metadata"] = dict(old["metadata"] if resource.custom else new["metadata"])
        if resource.custom and "managedFields" in new["metadata"]:
            result["metadata"]["managedFields"] = new["metadata"]["managedFields"]
        return result
    if resource.plural == "namespaces" and target.subresource != "finalize":
        new["spec"] = old.get("spec", {})
    if resource.has_status:
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
    return new


def _wanted(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in ("metadata", "status")}


def _held_open(resource: Resource, body: Json) -> bool:
    """A namespace goes only when its own finalizers are done: its content is gone."""
    return resource.plural == "namespaces" and bool(body.get("spec", {}).get("finalizers"))


def _new_finalizers(new: Json, old: Json) -> list[Cause]:
    added = [one for one in new.get("finalizers", []) if one not in old.get("finalizers", [])]
    if not added:
        return []
    shown = ", ".join(f'"{one}"' for one in added)
    text = (
        "Forbidden: no new finalizers can be added if the object is being deleted, found new "
        f"finalizers []string{{{shown}}}"
    )
    return [Cause("metadata.finalizers", text, "FieldValueForbidden")]
