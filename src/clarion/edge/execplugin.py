"""Credentials from a program: the exec plugins of kubeconfig files.

<https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock
from clarion.edge.credentials import Identity, KubeConfigError

API_VERSIONS: Final = (
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
)
INTERACTIVE_MODES: Final = ("Never", "IfAvailable", "Always")


class ExecEnv(msgspec.Struct, frozen=True):
    """One variable for the plugin."""

    name: str
    value: str


class ExecConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The `exec` part of a user in a kubeconfig file."""

    command: str
    api_version: str = API_VERSIONS[0]
    args: list[str] | None = None
    env: list[ExecEnv] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Credential(msgspec.Struct, frozen=True, rename="camel"):
    kind: str
    api_version: str
    status: _Status | None = None


def check_plugin(plugin: ExecConfig, where: str) -> None:
    """Whether a plugin can be run by a program that nobody sits in front of.

    Raises:
        KubeConfigError: it cannot.
    """
    if plugin.api_version not in API_VERSIONS:
        raise KubeConfigError(
            f"{where}.apiVersion: {plugin.api_version} is not known",
            f"use {' or '.join(API_VERSIONS)}",
        )
    if plugin.interactive_mode not in INTERACTIVE_MODES:
        raise KubeConfigError(
            f"{where}.interactiveMode: {plugin.interactive_mode} is not known",
            f"use {', '.join(INTERACTIVE_MODES)}",
        )
    if plugin.interactive_mode == "Always":
        raise KubeConfigError(
            f"{where}.interactiveMode: Always asks for a terminal, and there is none",
            "use another user of this cluster, such as a service account",
        )


class ExecPlugin:
    """A program that prints an ExecCredential; run again when it expires or is refused.

    What one run brought, credential or failure, stands for `KUBE_EXEC_PLUGIN_PAUSE_SECONDS` at
    least: a server that refuses everybody must not make us start programs without end.

    Args:
        plugin: The program.
        cluster: What it is told of the cluster, if it wants to know.
        clock: For expiry.
        where: File and field, for messages.
    """

    def __init__(
        self, plugin: ExecConfig, cluster: Mapping[str, Any], clock: Clock, where: str
    ) -> None:
        self._plugin = plugin
        self._cluster = cluster
        self._clock = clock
        self._where = where
        self._identity: Identity | None = None
        self._failure: KubeConfigError | None = None
        self._expires: datetime | None = None
        self._ended_at = 0.0
        self._running: asyncio.Task[None] | None = None

    async def identity(self, refused: Identity | None = None) -> Identity:
        """The identity; callers that need a new one at once share one run of the plugin.

        Raises:
            KubeConfigError: the plugin failed, does not end, or printed something else.
        """
        expired = self._expires is not None and self._clock.now() >= self._expires
        unfit = self._identity is None or expired or refused == self._identity
        ran = self._identity is not None or self._failure is not None
        age = self._clock.monotonic() - self._ended_at
        if unfit and not (ran and age < limits.KUBE_EXEC_PLUGIN_PAUSE_SECONDS):
            if self._running is None:
                self._running = asyncio.create_task(self._run(), name=f"run {self._where}")
                self._running.add_done_callback(self._ran)
            await asyncio.shield(self._running)
        if self._failure is not None and unfit:
            raise self._failure
        assert self._identity is not None, "a run leaves an identity or a failure"
        return self._identity

    def _ran(self, _task: asyncio.Task[None]) -> None:
        self._running = None
        self._ended_at = self._clock.monotonic()

    async def _run(self) -> None:
        try:
            credential = self._read(await self._output())
        except KubeConfigError as error:
            self._failure = error
            return
        self._failure = None
        self._expires = credential.expiration_timestamp
        self._identity = Identity(
            f"Bearer {credential.token}" if credential.token else "",
            credential.client_certificate_data.encode(),
            credential.client_key_data.encode(),
        )

    async def _output(self) -> bytes:
        plugin = self._plugin
        spec: dict[str, Any] = {"interactive": False}
        if plugin.provide_cluster_info:
            spec["cluster"] = self._cluster
        info = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": spec}
        environment = dict(os.environ)
        environment |= {pair.name: pair.value for pair in plugin.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(info).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *(plugin.args or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # so that what it starts can be ended with it
            )
        except OSError as error:
            raise KubeConfigError(
                f"{self._where}.command: cannot run {plugin.command!r}: {error.strerror}",
                plugin.install_hint.strip() or "install it, or give its full path",
            ) from error
        try:
            async with asyncio.timeout(limits.KUBE_EXEC_PLUGIN_SECONDS):
                out, err = await process.communicate()
        except TimeoutError as error:
            _kill(process)
            await process.wait()
            raise KubeConfigError(
                f"{self._where}: {plugin.command!r} did not end within "
                f"{limits.KUBE_EXEC_PLUGIN_SECONDS:g}s",
                "does it wait for somebody to log in?",
            ) from error
        except asyncio.CancelledError:
            _kill(process)
            raise
        if process.returncode:
            said = err.decode(errors="replace").strip()[-400:] or "and said nothing"
            raise KubeConfigError(
                f"{self._where}: {plugin.command!r} ended with {process.returncode}: {said}",
                "run it by hand as the same user",
            )
        return out

    def _read(self, out: bytes) -> _Status:
        said = f"{self._where}: {self._plugin.command!r} printed"
        try:
            credential = msgspec.json.decode(out, type=_Credential)
        except msgspec.MsgspecError as error:
            raise KubeConfigError(f"{said} no ExecCredential: {error}") from error
        version = self._plugin.api_version
        if credential.api_version != version:
            raise KubeConfigError(
                f"{said} {credential.api_version}, not {version}", "let both name the same version"
            )
        status = credential.status or _Status()
        if bool(status.client_certificate_data) != bool(status.client_key_data):
            raise KubeConfigError(f"{said} a client certificate or a key without the other")
        if not status.token and not status.client_certificate_data:
            raise KubeConfigError(f"{said} neither a token nor a client certificate")
        return status


def _kill(process: asyncio.subprocess.Process) -> None:
    """End a plugin that is still at work, with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
