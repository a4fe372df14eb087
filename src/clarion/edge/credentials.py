"""What proves to the API server who we are: tokens and certificates, given or in files."""

from pathlib import Path
from typing import Protocol

import msgspec

from clarion.base import limits
from clarion.base.errors import ClarionError
from clarion.base.ports import Clock


class KubeConfigError(ClarionError):
    """A credential source cannot be used; the message names the file and the field."""


class Identity(msgspec.Struct, frozen=True):
    """What proves who we are: an Authorization header, a client certificate, or both."""

    authorization: str = ""
    certificate: bytes = b""
    key: bytes = b""


class Credentials(Protocol):
    """A source of identity that may change as time passes."""

    async def identity(self, refused: Identity | None = None) -> Identity:
        """The present identity.

        Args:
            refused: The one that the server has just refused: it is worth looking for a newer one.
        """
        ...


class StaticCredentials:
    """An identity that never changes."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def identity(self, refused: Identity | None = None) -> Identity:  # noqa: ARG002 - the port's form
        """The identity."""
        return self._identity


class Given:
    """Bytes that stand in the configuration itself."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def read(self, *, renew: bool = False) -> bytes:  # noqa: ARG002 - as files have it
        """The bytes."""
        return self._data


class Replaced:
    """A file that somebody else replaces now and then: read each minute, and on demand.

    Args:
        path: Where it is.
        field: What it is to the user, for messages.
        clock: For the age of what was read.
    """

    def __init__(self, path: Path, field: str, clock: Clock) -> None:
        self._path = path
        self._field = field
        self._clock = clock
        self._data = b""
        self._read_at = 0.0

    def read(self, *, renew: bool = False) -> bytes:
        """The bytes as last read.

        Raises:
            KubeConfigError: the file was never there, or empty.
        """
        now = self._clock.monotonic()
        if self._data and not renew and now - self._read_at < limits.KUBE_FILE_REREAD_SECONDS:
            return self._data
        try:
            data, why = self._path.read_bytes(), "the file is empty"
        except OSError as error:
            data, why = b"", error.strerror or str(error)
        if data.strip():
            self._data, self._read_at = data, now
        elif not self._data:
            raise KubeConfigError(f"{self._field}: {self._path}: {why}")
        return self._data  # while a file is replaced, what it held before may still serve


Material = Given | Replaced


class FileCredentials:
    """A bearer token, a client certificate, or both, any of which may stand in files.

    Args:
        token: The token; None: there is none.
        certificate: PEM; empty: there is none.
        key: PEM, belongs to the certificate.
        fallback: A token for as long as the token's file cannot be read.
    """

    def __init__(
        self,
        token: Material | None,
        certificate: Material | None = None,
        key: Material | None = None,
        fallback: str = "",
    ) -> None:
        self._token = token
        self._certificate = certificate or Given()
        self._key = key or Given()
        self._fallback = fallback
        self._identity: Identity | None = None

    async def identity(self, refused: Identity | None = None) -> Identity:
        """The identity as the files hold it; read anew when it is the one that was refused."""
        renew = refused is not None and refused == self._identity
        self._identity = Identity(
            self._authorization(renew),
            self._certificate.read(renew=renew),
            self._key.read(renew=renew),
        )
        return self._identity

    def _authorization(self, renew: bool) -> str:
        token = self._fallback
        if self._token is not None:
            try:
                token = self._token.read(renew=renew).decode(errors="replace").strip()
            except KubeConfigError:
                if not token:
                    raise
        return f"Bearer {token}" if token else ""
