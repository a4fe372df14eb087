"""The Secret from which MetalLB's speakers derive the key of their member list.

Clarion's speakers tell by Leases who is alive and do without it. It is made where a flag names it,
so that speakers of both kinds can run while one replaces the other, in either direction.
"""

import asyncio
import base64
import secrets

from clarion.base import limits
from clarion.daemons.leadership import Leadership
from clarion.daemons.runtime import Runtime
from clarion.edge.kubeclient import AlreadyExistsError, ApiError
from clarion.model.core import Secret
from clarion.model.meta import ObjectKey, ObjectMeta

SECRET_KEY = "secretkey"  # noqa: S105 - the name of a field
KEY_BYTES = 16


class MemberlistSecret:
    """Makes the Secret if it is absent, while this program leads.

    Args:
        runtime: The surroundings; Secrets of the namespace are followed in its informers.
        leadership: Whether this program may write.
        name: Name of the Secret, in the program's namespace.
    """

    def __init__(self, runtime: Runtime, leadership: Leadership, name: str) -> None:
        self._runtime = runtime
        self._leadership = leadership
        self._key = ObjectKey(runtime.namespace, name)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        await self._runtime.informers.wait_synced()
        while True:
            await self._leadership.wait()
            if self._key not in self._runtime.informers.store(Secret):
                await self._create()
            await asyncio.sleep(limits.MEMBERLIST_SECRET_LOOK_SECONDS)

    async def _create(self) -> None:
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=")
        made = Secret(
            metadata=ObjectMeta(name=self._key.name, namespace=self._key.namespace),
            type="Opaque",
            data={SECRET_KEY: base64.b64encode(key).decode()},
        )
        left = self._leadership.until() - self._runtime.clock.monotonic()
        log = self._runtime.log.bind(secret=str(self._key))
        try:
            async with asyncio.timeout(min(left, limits.KUBE_REQUEST_SECONDS)):
                await self._runtime.client.create(made)
        except AlreadyExistsError:
            return
        except (ApiError, TimeoutError) as error:
            log.warn("the memberlist secret is not made", error=str(error) or "no answer in time")
        else:
            log.info("memberlist secret made")
