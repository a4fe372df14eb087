"""Leases on the API server: a speaker's heartbeat, and the election of one controller."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock, Entropy
from clarion.edge.kubeclient import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    KubeClient,
    NotFoundError,
)
from clarion.edge.logs import Log
from clarion.edge.procid import has_ended
from clarion.model.core import Lease, LeaseSpec
from clarion.model.meta import ObjectKey, ObjectMeta, OwnerReference
from clarion.proto.kube.leases import (
    Create,
    ElectionPolicy,
    Elector,
    LeaseRecord,
    Replace,
    Wait,
)


def micro_time(when: datetime) -> str:
    """The form of meta/v1 MicroTime: UTC with six digits."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def record_of(lease: Lease) -> LeaseRecord:
    """What a Lease says, as `proto.kube.leases` reads it."""
    spec = lease.spec
    return LeaseRecord(
        holder=spec.holder_identity or "",
        duration=float(spec.lease_duration_seconds or 0),
        acquire_time=spec.acquire_time or "",
        renew_time=spec.renew_time or "",
        transitions=spec.lease_transitions or 0,
        version=lease.metadata.resource_version,
    )


def _spec_of(record: LeaseRecord) -> LeaseSpec:
    return LeaseSpec(
        holder_identity=record.holder,
        lease_duration_seconds=max(1, round(record.duration)),
        acquire_time=record.acquire_time or None,
        renew_time=record.renew_time or None,
        lease_transitions=record.transitions,
    )


class Heartbeat:
    """Shows by a Lease that this program lives: created, renewed, given up on a clean stop.

    Args:
        client: How to reach the server.
        key: The Lease.
        holder: Who lives, say the node's name.
        clock: The clock.
        labels: By which others find the Lease.
        owners: Whose deletion deletes it.
        renew_seconds: Seconds between renewals.
        duration_seconds: After how long without one others may think us dead.
    """

    def __init__(
        self,
        client: KubeClient,
        key: ObjectKey,
        holder: str,
        clock: Clock,
        *,
        labels: Mapping[str, str] | None = None,
        owners: tuple[OwnerReference, ...] = (),
        renew_seconds: float = limits.SPEAKER_LEASE_RENEW_SECONDS,
        duration_seconds: float = limits.SPEAKER_LEASE_DURATION_SECONDS,
    ) -> None:
        self._client = client
        self._key = key
        self._clock = clock
        self._period = renew_seconds
        self._meta = ObjectMeta(
            name=key.name,
            namespace=key.namespace,
            labels=dict(labels or {}),
            owner_references=owners,
        )
        self.annotations: Mapping[str, str] = {}
        """What the next renewal shall tell beside the fact of living; may be replaced any time."""
        self.leaves_word = False
        """The Lease stays after a clean stop, without a holder, for who starts next to read.
        Otherwise it is deleted."""
        self._record = LeaseRecord(holder=holder, duration=duration_seconds)
        self._log = Log("heartbeat").bind(lease=str(key))
        self._renewed_at: float | None = None

    @property
    def renewed_at(self) -> float | None:
        """When the last successful renewal was begun (monotonic); None before the first."""
        return self._renewed_at

    async def run(self) -> None:
        """Renew until cancelled, then give the Lease up so that others need not wait."""
        acquired = micro_time(self._clock.now())
        failing = False
        try:
            while True:
                began = self._clock.monotonic()
                try:
                    async with asyncio.timeout(self._record.duration):
                        await self._renew(acquired)
                except (ApiError, TimeoutError) as error:
                    if not failing:
                        self._log.warn("the heartbeat is not written", error=str(error) or "slow")
                    failing = True
                else:
                    if failing:
                        self._log.info("the heartbeat is written again")
                    failing = False
                    self._renewed_at = began
                rest = began + self._period - self._clock.monotonic()
                await asyncio.sleep(max(0.0, rest))
        finally:
            await self._give_up()

    async def _renew(self, acquired: str) -> None:
        spec = _spec_of(
            LeaseRecord(
                holder=self._record.holder,
                duration=self._record.duration,
                acquire_time=acquired,
                renew_time=micro_time(self._clock.now()),
            )
        )
        told = {"labels": self._meta.labels, "annotations": dict(self.annotations)}
        patch = {"metadata": told, "spec": spec}
        try:
            await self._client.patch(Lease, self._key, patch)
        except NotFoundError:
            try:
                meta = msgspec.structs.replace(self._meta, annotations=dict(self.annotations))
                await self._client.create(Lease(metadata=meta, spec=spec))
            except AlreadyExistsError:
                await self._client.patch(Lease, self._key, patch)

    async def _give_up(self) -> None:
        try:
            async with asyncio.timeout(self._period):
                if self.leaves_word:
                    nobody = {"spec": {"holderIdentity": None}}
                    await self._client.patch(Lease, self._key, nobody)
                else:
                    await self._client.delete(Lease, self._key)
        except NotFoundError:
            pass
        except (ApiError, TimeoutError) as error:
            self._log.warn("the heartbeat is not given up; it will expire", error=str(error))


class LeaderElection:
    """Keeps one of several programs the leader, by a Lease.

    A holder that was a process of this machine and has ended, by a crash, is not waited for.

    Ask `leads` right before each act that only the leader may do: it is judged by the local clock
    and turns false in time even when this program was stopped for a while and has not noticed.

    Args:
        client: How to reach the server.
        key: The Lease.
        identity: The name of this candidate, unique among all processes that ever ran, as of
            `edge.procid`.
        clock: The clock.
        entropy: For jitter between attempts.
        policy: The times.
        on_change: Told when leadership is won or lost.
    """

    def __init__(
        self,
        client: KubeClient,
        key: ObjectKey,
        identity: str,
        clock: Clock,
        entropy: Entropy,
        *,
        policy: ElectionPolicy | None = None,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        self.identity = identity
        self._client = client
        self._key = key
        self._clock = clock
        self._entropy = entropy
        self._policy = policy or ElectionPolicy(
            lease_duration=limits.LEADER_LEASE_SECONDS,
            renew_deadline=limits.LEADER_RENEW_SECONDS,
            retry_period=limits.LEADER_RETRY_SECONDS,
        )
        self._elector = Elector(identity, self._policy)
        self._on_change = on_change
        self._log = Log("election").bind(lease=str(key), identity=identity)
        self._led = False
        self._failing = False
        self._changed = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether this program is the leader at this moment."""
        return self._elector.leads(self._clock.monotonic())

    @property
    def leads_until(self) -> float | None:
        """When leadership ends unless renewed (monotonic); None while this is not the leader."""
        return self._elector.leads_until

    @property
    def leader(self) -> str:
        """Who held the lease when it was last read; empty when nobody did."""
        return self._elector.leader

    @property
    def term(self) -> str:
        """A name for this time of holding the lease; the same until another held it."""
        return self._elector.term

    async def wait_leading(self) -> None:
        """Until this program is the leader."""
        while not self.leads:
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Take part until cancelled, then give the lease up."""
        try:
            while True:
                await self._attempt()
                self._tell()
                await self._pause()
        finally:
            await self._release()
            self._tell()

    async def _attempt(self) -> None:
        ends = self._elector.leads_until
        left = None if ends is None else ends - self._clock.monotonic()
        patience = self._policy.renew_deadline if left is None or left <= 0 else left
        try:
            async with asyncio.timeout(patience):
                await self._read()
                await self._write()
        except (ConflictError, AlreadyExistsError) as error:
            self._log.debug("another was faster", error=error.message)  # the next attempt tells
        except (ApiError, TimeoutError) as error:
            if not self._failing:
                text = str(error) or "no answer in time"
                self._log.warn("the lease cannot be read or written", error=text)
            self._failing = True
        else:
            self._failing = False

    async def _read(self) -> None:
        record: LeaseRecord | None
        try:
            record = record_of(await self._client.get(Lease, self._key))
        except NotFoundError:
            record = None
        self._elector.seen(record, self._clock.monotonic())

    async def _write(self) -> None:
        began = self._clock.monotonic()
        ended = has_ended(self._elector.leader)
        decision = self._elector.decide(micro_time(self._clock.now()), began, ended=ended)
        match decision:
            case Create(record):
                meta = ObjectMeta(name=self._key.name, namespace=self._key.namespace)
                stored = await self._client.create(Lease(metadata=meta, spec=_spec_of(record)))
            case Replace(record):
                stored = await self._replace(record)
            case Wait():
                return
        self._elector.written(record_of(stored), began, self._clock.monotonic())

    async def _replace(self, record: LeaseRecord) -> Lease:
        patch = {"metadata": {"resourceVersion": record.version}, "spec": _spec_of(record)}
        return await self._client.patch(Lease, self._key, patch)

    async def _pause(self) -> None:
        """Until the next attempt; tells in time when leadership ends before it."""
        period = self._policy.retry_period
        now = self._clock.monotonic()
        wake = now + (period if self._led else period * (1 + 0.2 * self._entropy.random()))
        ends = self._elector.leads_until
        if ends is not None and ends < wake:
            await asyncio.sleep(max(0.0, ends - now))
            self._tell()
        await asyncio.sleep(max(0.0, wake - self._clock.monotonic()))

    async def _release(self) -> None:
        decision = self._elector.release(micro_time(self._clock.now()))
        if decision is None:
            return
        try:
            async with asyncio.timeout(self._policy.retry_period):
                await self._replace(decision.record)
        except (ApiError, TimeoutError) as error:
            self._log.warn("the lease is not given up; it will expire", error=str(error))

    def _tell(self) -> None:
        leads = self.leads
        if leads != self._led:
            self._led = leads
            self._log.info("leading" if leads else "no longer leading", leader=self.leader)
            if self._on_change is not None:
                self._on_change(leads)
        if leads:
            self._changed.set()
