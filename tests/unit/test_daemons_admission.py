"""Admission from memory: what is refused, what is warned of, and what is never in the way."""

from typing import Any

import msgspec
import pytest

from clarion.base import limits
from clarion.daemons.admission import Admission
from clarion.decide.snapshot import Options
from clarion.edge.kubeclient import UnreachableError
from clarion.edge.webhook import NotReadyError
from clarion.model.annotations import RESTING
from clarion.model.codec import UndecodableError, encode, to_builtins
from clarion.model.core import Namespace
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject, ObjectMeta
from clarion.model.metallb import IPAddressPool
from clarion.model.review import (
    AdmissionRequest,
    AdmissionResponse,
    AdmissionReview,
    ReviewKind,
)
from clarion.testing import builders
from clarion.testing.memoryapi import MemoryClient

from .daemons_kit import SYSTEM, World, run


class Deaf(MemoryClient):
    """A server that tells nothing; memory alone decides."""

    async def list_page(self, *_: object, **__: object) -> bytes:
        raise UnreachableError(0, "Unreachable", "no answer")


class Judging(World):
    """Admission beside a controller that follows an API in memory."""

    def __init__(self, client: MemoryClient | None = None, *, synced: bool = True) -> None:
        super().__init__(client)
        self.client.put(Namespace(metadata=ObjectMeta(name=SYSTEM)))
        self.admission = Admission(
            self.client, self.runtime.informers, Options(namespace=SYSTEM), self.clock
        )
        self.controller.on_change.append(lambda _kind: self.admission.changed())
        if synced:
            for reflector in self.runtime.informers._reflectors.values():
                reflector.synced.set()

    def stored(self, *objects: KubeObject) -> None:
        """These are on the server, and the watches brought them."""
        for obj in objects:
            self.client.put(obj)
        self.client.deliver(self.see)

    async def ask(
        self, new: KubeObject | None, old: KubeObject | None = None, **more: Any
    ) -> AdmissionResponse:
        about = new or old
        assert about is not None
        operation = "DELETE" if new is None else "UPDATE" if old else "CREATE"
        request = AdmissionRequest(
            uid="u",
            kind=ReviewKind(kind=about.kind, version=kind_of(about).version),
            name=about.name,
            namespace=about.namespace,
            operation=operation,
            object=to_builtins(new) if new else None,
            old_object=to_builtins(old) if old else None,
            **more,
        )
        return await self.admission.answer(request)


def codes(response: AdmissionResponse) -> list[str]:
    assert not response.allowed
    assert response.status is not None
    assert response.status.details is not None
    return [
        cause.message.rpartition("[")[2].rstrip("]") for cause in response.status.details.causes
    ]


def test_every_problem_is_named_with_its_field_its_code_and_what_to_do() -> None:
    async def play() -> None:
        world = Judging()
        response = await world.ask(builders.pool("bad", "192.0.2.9-192.0.2.1", "hello"))
        assert codes(response) == ["address-invalid", "address-invalid"]
        assert response.status is not None
        assert (response.status.code, response.status.reason) == (422, "Invalid")
        lines = response.status.message.splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            "spec.addresses[0]",
            "spec.addresses[1]",
        ]
        assert all("(" in line and line.endswith("[address-invalid]") for line in lines)

    run(play)


def test_warnings_tell_what_waits_and_what_hardly_works() -> None:
    async def play() -> None:
        world = Judging()
        response = await world.ask(builders.pool("good", "192.0.2.0/28"))
        assert response.allowed
        assert any(text.endswith("[pool-not-advertised]") for text in response.warnings)
        peer = builders.peer("tor", bfd_profile="later")
        response = await world.ask(peer)
        assert response.allowed
        assert any("[bfd-profile-missing]" in text for text in response.warnings)
        assert all(len(text) <= limits.WEBHOOK_WARNING_CHARS for text in response.warnings)

    run(play)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"a": "b"}},
        {"annotations": {"example.com/a": "b"}},
        {"annotations": {RESTING: "2026-01-01T00:00:00Z 192.0.2.7 shop/web"}},
        {"finalizers": ("example.com/a",)},
    ],
)
def test_what_configures_nothing_is_never_refused(change: dict[str, Any]) -> None:
    async def play() -> None:
        world = Judging(synced=False)
        old = builders.pool("bad", "hello")
        meta = msgspec.structs.replace(old.metadata, **change)
        assert (await world.ask(msgspec.structs.replace(old, metadata=meta), old)).allowed

    run(play)


def test_nobody_keeps_an_object_from_going() -> None:
    async def play() -> None:
        world = Judging(synced=False)
        old = builders.pool("bad", "hello")
        assert (await world.ask(None, old)).allowed
        going = msgspec.structs.replace(old.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
        new = msgspec.structs.replace(builders.pool("bad", "other"), metadata=going)
        assert (await world.ask(new, old)).allowed

    run(play)


def test_an_annotation_that_is_configuration_is_judged() -> None:
    async def play() -> None:
        world = Judging()
        old = builders.pool("pool", "192.0.2.0/28")
        reserved = {"clarion.metallb.io/reserved": "hello"}
        meta = msgspec.structs.replace(old.metadata, annotations=reserved)
        assert not (await world.ask(msgspec.structs.replace(old, metadata=meta), old)).allowed

    run(play)


def test_nothing_is_judged_by_half_of_what_there_is() -> None:
    async def play() -> None:
        world = Judging(synced=False)
        with pytest.raises(NotReadyError, match="not read yet: IPAddressPool"):
            await world.ask(builders.pool("good", "192.0.2.0/28"))

    run(play)


def test_what_was_admitted_counts_before_the_watch_brings_it() -> None:
    async def play() -> None:
        world = Judging()
        first, second = builders.pool("one", "192.0.2.0/28"), builders.pool("two", "192.0.2.0/29")
        assert (await world.ask(first)).allowed
        world.client.put(first)  # stored, and not yet seen
        assert codes(await world.ask(second)) == ["pool-overlap"]
        # Deleted again before it was seen: what the server holds decides.
        world.client.drop(IPAddressPool, first.key)
        assert (await world.ask(second)).allowed

    run(play)


def test_a_dry_run_and_a_write_that_failed_elsewhere_stand_in_nobodys_way() -> None:
    async def play() -> None:
        world = Judging(Deaf())
        first, second = builders.pool("one", "192.0.2.0/28"), builders.pool("two", "192.0.2.0/29")
        assert (await world.ask(first, dry_run=True)).allowed
        assert (await world.ask(second)).allowed
        assert not (await world.ask(first)).allowed
        world.clock.at += limits.WEBHOOK_MEMORY_SECONDS  # it never came
        assert (await world.ask(first)).allowed

    run(play)


def test_memory_that_is_behind_refuses_nothing() -> None:
    async def play() -> None:
        world = Judging()
        old = builders.pool("one", "192.0.2.0/28")
        world.stored(old)
        world.client.drop(IPAddressPool, old.key)  # and memory does not know
        assert (await world.ask(builders.pool("two", "192.0.2.0/28"))).allowed

    run(play)


def test_a_profile_stays_while_living_peers_name_it() -> None:
    async def play() -> None:
        world = Judging()
        profile, peer = builders.bfd_profile("fast"), builders.peer("tor", bfd_profile="fast")
        world.stored(profile)
        assert (await world.ask(None, profile)).allowed
        world.stored(peer)
        response = await world.ask(None, profile)
        assert response.status is not None
        assert "BGP peers use it: tor" in response.status.message
        # Deleted, with a finalizer that keeps it for a while.
        meta = msgspec.structs.replace(peer.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
        world.stored(msgspec.structs.replace(peer, metadata=meta))
        assert (await world.ask(None, profile)).allowed

    run(play)


def test_a_namespace_that_ends_and_a_server_that_is_silent_keep_no_profile() -> None:
    async def play() -> None:
        world = Judging()
        profile = builders.bfd_profile("fast")
        world.stored(profile, builders.peer("tor", bfd_profile="fast"))
        ending = ObjectMeta(name=SYSTEM, deletion_timestamp="2026-01-01T00:00:00Z")
        world.stored(Namespace(metadata=ending))
        assert (await world.ask(None, profile)).allowed
        deaf = Judging(Deaf())
        deaf.stored(profile, builders.peer("tor", bfd_profile="fast"))
        assert (await deaf.ask(None, profile)).allowed

    run(play)


def test_an_object_that_cannot_be_read_is_a_bad_request() -> None:
    async def play() -> None:
        world = Judging()
        for broken in ({"spec": {"addresses": 5}}, {"metadata": 5}, {"spec": [1]}):
            plain = to_builtins(builders.pool("bad", "192.0.2.0/28")) | broken
            request = AdmissionRequest(uid="u", operation="CREATE", object=plain)
            response = await world.admission.answer(request)
            assert response.status is not None
            assert response.status.code == 400

    run(play)


def test_other_kinds_and_operations_are_none_of_our_business() -> None:
    async def play() -> None:
        world = Judging(synced=False)
        assert (await world.ask(builders.service("web"))).allowed
        connect = AdmissionRequest(uid="u", operation="CONNECT")
        assert (await world.admission.answer(connect)).allowed

    run(play)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"request": {}}',
        b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_no_review_is_refused(body: bytes) -> None:
    async def play() -> None:
        with pytest.raises(UndecodableError):
            await Judging().admission.review(body)

    run(play)


def test_the_answer_carries_the_id_of_the_question_and_is_counted() -> None:
    async def play() -> None:
        world = Judging()
        plain = to_builtins(builders.pool("good", "192.0.2.0/28"))
        request = AdmissionRequest(uid="abc", operation="CREATE", object=plain)
        reply = await world.admission.review(encode(AdmissionReview(request=request)))
        told = msgspec.json.decode(reply)
        assert told["kind"] == "AdmissionReview"
        assert told["apiVersion"] == "admission.k8s.io/v1"
        assert (told["response"]["uid"], told["response"]["allowed"]) == ("abc", True)
        assert world.admission.counts == {"allowed": 1}

    run(play)


def test_the_namespace_of_the_request_counts_where_the_object_names_none() -> None:
    async def play() -> None:
        world = Judging()
        plain = to_builtins(builders.pool("good", "192.0.2.0/28"))
        del plain["metadata"]["namespace"]
        here = AdmissionRequest(uid="u", operation="CREATE", object=plain, namespace=SYSTEM)
        assert (await world.admission.answer(here)).allowed
        there = msgspec.structs.replace(here, namespace="default")
        assert codes(await world.admission.answer(there)) == ["wrong-namespace"]

    run(play)
