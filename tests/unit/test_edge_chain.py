"""Certificates over their years, under a clock that the test moves, judged by real handshakes."""

import base64
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID

from clarion.base import limits
from clarion.edge.chain import Chain, next_chain, read_chain
from clarion.edge.tls import KeyPair, make_server, server_context

HOSTS = ("metallb-webhook-service.metallb-system.svc", "127.0.0.1")
START = datetime(2026, 1, 1, tzinfo=UTC)
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL: the test has a clock of its own
SETTLE = timedelta(seconds=limits.WEBHOOK_AUTHORITY_SETTLE_SECONDS)
OVERLAP = timedelta(seconds=limits.WEBHOOK_AUTHORITY_OVERLAP_SECONDS)
DAY = timedelta(days=1)


def step(
    chain: Chain | None, now: datetime, *, published: bool = True, replace: bool = False
) -> Chain:
    return next_chain(chain, HOSTS, now, published=published, replace_authority=replace)


def shakes_hands(bundle: str, server: KeyPair, host: str = HOSTS[0]) -> bool:
    """Whether a client that trusts a bundle accepts what a server shows; no socket is used."""
    there = server_context(server)
    here = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    here.verify_flags |= NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = here.wrap_bio(to_client, to_server, server_hostname=host)
    peer = there.wrap_bio(to_server, to_client, server_side=True)

    def done(shake: Callable[[], None]) -> bool:
        try:
            shake()
        except ssl.SSLWantReadError:
            return False
        return True

    try:
        while not (done(client.do_handshake) & done(peer.do_handshake)):
            pass
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_what_is_made_first_serves_all_its_names_and_stays_as_it_is() -> None:
    chain = step(None, START)
    assert all(shakes_hands(chain.bundle, chain.server, host) for host in HOSTS)
    assert not shakes_hands(chain.bundle, chain.server, "example.com")
    assert read_chain(chain.data()) == chain
    assert step(chain, START + 274 * DAY) is chain


def test_the_server_certificate_is_renewed_before_its_end_under_the_same_authority() -> None:
    chain = step(None, START)
    renewed = step(chain, START + 276 * DAY)
    assert renewed.authorities == chain.authorities
    assert renewed.server.not_after > chain.server.not_after
    assert shakes_hands(chain.bundle, renewed.server)


def test_an_authority_is_replaced_in_steps_that_every_client_survives() -> None:
    now = START
    steps = [step(None, now)]
    while now < START + 3200 * DAY:  # nine years, looked at once a month
        now += 30 * DAY
        if (after := step(steps[-1], now)) != steps[-1]:
            steps.append(after)
        if len(after.authorities) > 1:
            break
    old = steps[-2]
    both = steps[-1]
    assert both.authorities[1:] == old.authorities
    assert both.server == old.server
    assert step(both, now + DAY, published=False) == both, "not before all clients know it"
    assert step(both, now + SETTLE / 2) == both, "nor before they had time to learn of it"
    steps.append(step(both, now + SETTLE))
    assert steps[-1].authorities == both.authorities
    assert steps[-1].server != old.server
    assert step(steps[-1], now + OVERLAP / 2) is steps[-1]
    steps.append(step(steps[-1], now + OVERLAP))
    assert steps[-1].authorities == both.authorities[:1]
    # API servers may be one step behind or ahead of the replica that they ask.
    for one, other in pairwise(steps):
        assert shakes_hands(one.bundle, other.server)
        assert shakes_hands(other.bundle, one.server)
    assert not shakes_hands(steps[-1].bundle, old.server), "the old one is trusted no longer"


def test_a_replacement_on_demand_goes_through_the_same_steps() -> None:
    chain = step(None, START)
    both = step(chain, START + DAY, replace=True)
    assert len(both.authorities) == 2
    assert both.server == chain.server
    assert step(both, START + DAY + SETTLE).server != chain.server


def test_a_certificate_that_ended_or_lacks_a_name_is_replaced_at_once() -> None:
    chain = step(None, START)
    late = step(chain, START + 400 * DAY)
    assert late.server != chain.server
    named = next_chain(chain, ("other.example.com",), START, published=True)
    assert shakes_hands(chain.bundle, named.server, "other.example.com")
    ended = step(chain, START + 4000 * DAY)
    assert len(ended.authorities) == 1, "an authority that ended is trusted no longer"
    assert shakes_hands(ended.bundle, ended.server)


def rsa_authority(now: datetime) -> KeyPair:
    """An authority as MetalLB's certificate rotation makes it."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cert")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + 3650 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
    )


def test_what_metallb_left_is_taken_over_and_its_authority_renews() -> None:
    authority = rsa_authority(START)
    left = Chain((authority.certificate,), authority.key, make_server(authority, HOSTS, START))
    found = read_chain(left.data())
    assert found == left
    assert step(found, START + DAY) is found
    assert shakes_hands(left.bundle, step(found, START + 300 * DAY).server)


def test_a_secret_without_the_authoritys_key_is_somebody_elses() -> None:
    chain = step(None, START)
    data = chain.data()
    for missing, bundle in (({"ca.key"}, chain.bundle), ({"ca.key", "ca.crt"}, "")):
        found = read_chain({name: text for name, text in data.items() if name not in missing})
        assert found is not None
        assert found.foreign
        assert found.bundle == bundle
        assert step(found, START + 1000 * DAY) is found


@pytest.mark.parametrize(
    "damage",
    [
        {"tls.crt": ""},
        {"tls.key": ""},
        {"tls.crt": "not base64"},
        {"ca.crt": ""},
        {"ca.crt": base64.b64encode(b"no PEM").decode()},
        {"tls.key": None},
        {"ca.key": None},
    ],
)
def test_what_no_server_could_show_is_nothing(damage: dict[str, str | None]) -> None:
    other = step(None, START).data()
    data = step(None, START).data() | {
        name: other[name] if text is None else text for name, text in damage.items()
    }
    assert read_chain(data) is None


def test_a_key_of_another_kind_is_nothing_that_is_used() -> None:
    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    data = step(None, START).data() | {"ca.key": base64.b64encode(key).decode()}
    assert read_chain(data) is None
