"""The certificates of a webhook server: authorities that overlap, and a certificate under one.

Everything that is known of a rotation stands in the certificates themselves, so that any program
may go on with it. A new authority is published beside the old one first; some time after all
clients were told of both, the server's certificate is signed anew; later the old one is dropped.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from clarion.base import limits
from clarion.edge.tls import SERVER_LIFE, KeyPair, born_at, make_authority, make_server

AUTHORITY_CERTIFICATE, AUTHORITY_KEY = "ca.crt", "ca.key"
SERVER_CERTIFICATE, SERVER_KEY = "tls.crt", "tls.key"
"""Keys of the Secret, as MetalLB and cert-manager name them."""

_RENEW_AHEAD = timedelta(days=limits.WEBHOOK_CERTIFICATE_RENEW_DAYS)
_SETTLE = timedelta(seconds=limits.WEBHOOK_AUTHORITY_SETTLE_SECONDS)
_OVERLAP = timedelta(seconds=limits.WEBHOOK_AUTHORITY_OVERLAP_SECONDS)


class Chain(msgspec.Struct, frozen=True):
    """What a Secret holds.

    Attributes:
        authorities: PEM of the authorities to trust, the newest first.
        authority_key: PEM of the newest one's key; empty: somebody else keeps it and renews.
        server: What the server shows.
    """

    authorities: tuple[bytes, ...]
    authority_key: bytes
    server: KeyPair

    @property
    def bundle(self) -> str:
        """The authorities as a `caBundle`: base64 of PEM; empty if none is known."""
        return base64.b64encode(b"".join(self.authorities)).decode()

    @property
    def foreign(self) -> bool:
        """Whether somebody else keeps it, such as cert-manager: used, never written."""
        return not self.authority_key

    def data(self) -> dict[str, str]:
        """The `data` of the Secret."""
        plain = {
            AUTHORITY_CERTIFICATE: b"".join(self.authorities),
            AUTHORITY_KEY: self.authority_key,
            SERVER_CERTIFICATE: self.server.certificate,
            SERVER_KEY: self.server.key,
        }
        return {name: base64.b64encode(value).decode() for name, value in plain.items()}


def read_chain(data: Mapping[str, str]) -> Chain | None:
    """What the `data` of a Secret holds; None if that is nothing that a server could show."""
    try:
        plain = {name: base64.b64decode(text, validate=True) for name, text in data.items()}
        authorities = _certificates(plain.get(AUTHORITY_CERTIFICATE, b""))
        server = KeyPair(plain.get(SERVER_CERTIFICATE, b""), plain.get(SERVER_KEY, b""))
        key = plain.get(AUTHORITY_KEY, b"")
        shown = x509.load_pem_x509_certificate(server.certificate)
        if _public(server.key) != _bytes_of(shown.public_key()):
            return None
        if key and (
            not authorities or _public(key) != _bytes_of(_load(authorities[0]).public_key())
        ):
            return None
    except (ValueError, TypeError, binascii.Error):
        return None
    return Chain(authorities, key, server)


def _certificates(text: bytes) -> tuple[bytes, ...]:
    found = x509.load_pem_x509_certificates(text) if text.strip() else []
    return tuple(one.public_bytes(serialization.Encoding.PEM) for one in found)


def _load(certificate: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate)


def _public(key: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TypeError("neither of an elliptic curve nor RSA")
    return _bytes_of(loaded.public_key())


def _bytes_of(key: PublicKeyTypes) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def next_chain(
    chain: Chain | None,
    hosts: Iterable[str],
    now: datetime,
    *,
    published: bool,
    replace_authority: bool = False,
) -> Chain:
    """The chain that should be in force now; the same value if nothing is due.

    Args:
        chain: The one in force; None: there is none that can be used.
        hosts: Names and addresses that the server is reached by.
        now: The date and time.
        published: Whether all clients were told of all authorities of `chain`.
        replace_authority: Whether the newest authority shall not be used any longer.
    """
    names = tuple(hosts)
    if chain is None:
        authority = make_authority("metallb-webhook", now)
        return Chain((authority.certificate,), authority.key, make_server(authority, names, now))
    if chain.foreign:
        return chain
    newest = chain.authorities[0]
    # An authority must outlive every certificate that it signs.
    if replace_authority or _load(newest).not_valid_after_utc <= now + SERVER_LIFE + _RENEW_AHEAD:
        made = make_authority("metallb-webhook", now)
        kept = tuple(one for one in chain.authorities if _load(one).not_valid_after_utc > now)
        chain = Chain((made.certificate, *kept), made.key, chain.server)
        published = False
    return _with_server(chain, names, now, published=published)


def _with_server(chain: Chain, names: tuple[str, ...], now: datetime, *, published: bool) -> Chain:
    """The chain with the certificate that its server should show, and no authority too many."""
    newest, server = chain.authorities[0], chain.server
    settled = published and now >= born_at(newest) + _SETTLE
    usable = set(names) <= server.names and server.not_after > now and _signed(server, chain)
    current = _is_signed_by(server, newest) and server.not_after > now + _RENEW_AHEAD
    if not usable or (not current and (settled or len(chain.authorities) == 1)):
        signer = KeyPair(newest, chain.authority_key)
        return Chain(chain.authorities, chain.authority_key, make_server(signer, names, now))
    if current and len(chain.authorities) > 1 and now >= born_at(newest) + _OVERLAP:
        return Chain((newest,), chain.authority_key, server)
    return chain


def _signed(server: KeyPair, chain: Chain) -> bool:
    return any(_is_signed_by(server, authority) for authority in chain.authorities)


def _is_signed_by(server: KeyPair, authority: bytes) -> bool:
    try:
        _load(server.certificate).verify_directly_issued_by(_load(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
