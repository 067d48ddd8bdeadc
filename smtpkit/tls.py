"""tls: TLS over a memory BIO: octets in, octets out, and the facts that it leaves. Not here: sockets (engine)."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from smtpkit.address import numeric
from smtpkit.catalogue import rows
from smtpkit.errors import refuse
from smtpkit.escape import Shown

PROBLEMS = {int(row["number"]): row["problem"] for row in rows("tls_problems.csv")}
"""The codes of verification that mail servers meet."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of the chain, the server's own first."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    """DNS names and addresses of the subject alternative name."""
    not_before: datetime
    not_after: datetime
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsFacts(Shown):
    """What the handshake came to; the chain is there even when verification failed."""

    version: str
    cipher: str
    verified: bool
    problem: str | None
    """Why verification failed, for people; None: it did not."""
    chain: tuple[Certificate, ...] = ()


class HandshakeError(Exception):
    """The handshake cannot go on; str() says why."""


@lru_cache(maxsize=32)
def _context(ca_file: Path | None) -> SSL.Context:
    """TLS 1.2 and up, the system's or the given authorities; verification is noted, never fatal here."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    if ca_file is None:
        context.set_default_verify_paths()
    else:
        try:
            context.load_verify_locations(str(ca_file))
        except SSL.Error as error:
            why = f"holds no certificates ({_words(error)})"
            raise refuse("ca_file", str(ca_file), why, "give a PEM file") from None
    context.set_verify(SSL.VERIFY_PEER, _note)
    return context


def read_authorities(ca_file: Path) -> None:
    """Read the file anew; InvalidInput if it holds no certificates."""
    _context.cache_clear()
    _context(ca_file)


def _note(link: SSL.Connection, cert: Any, number: int, depth: int, ok: int) -> bool:
    """OpenSSL's callback: keep the first problem, let the handshake go on."""
    if not ok:
        kept = link.get_app_data()
        kept.append(f"{PROBLEMS.get(number, f'OpenSSL verification error {number}')} (depth {depth})")
    return True


class TlsLink:
    """One TLS session over memory: `feed` what came, take `outgoing`, `read` and `write` clear text."""

    def __init__(self, server_name: str | None, ca_file: Path | None = None) -> None:
        self._problems: list[str] = []
        self._name = server_name
        self._link = SSL.Connection(_context(ca_file), None)
        self._link.set_app_data(self._problems)
        self._link.set_connect_state()
        if server_name and not numeric(server_name):
            self._link.set_tlsext_host_name(server_name.encode("ascii"))

    def feed(self, octets: bytes) -> None:
        """Take octets from the server."""
        self._link.bio_write(octets)

    def outgoing(self) -> bytes:
        """Octets that must go to the server now."""
        return _all(self._link.bio_read)[0]

    def shake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises HandshakeError."""
        try:
            self._link.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise HandshakeError(_words(error)) from None
        return True

    def write(self, octets: bytes) -> None:
        """Clear text for the server; what it becomes is in `outgoing`."""
        try:
            self._link.sendall(octets)
        except SSL.Error:  # TLS is over, or the server wants a new handshake: no answer will come
            raise HandshakeError("TLS takes no more octets") from None

    def read(self) -> tuple[bytes, str | None]:
        """Clear text that has come, and how TLS ended, if it did."""
        made, end = _all(self._link.recv)
        if isinstance(end, SSL.WantReadError):
            return made, None
        return made, "" if isinstance(end, SSL.ZeroReturnError) else _words(end)

    def facts(self) -> TlsFacts:
        """Version, cipher, chain, and whether the chain and the name are good."""
        chain = _readable(self._link.get_peer_cert_chain() or ())
        problem = self._problems[0] if self._problems else wrong_name(self._name, chain)
        version, cipher = self._link.get_protocol_version_name(), self._link.get_cipher_name() or ""
        return TlsFacts(version, cipher, not problem, problem, chain)


def _all(read: Callable[[int], bytes]) -> tuple[bytes, SSL.Error]:
    """Whatever is there, and why there is no more."""
    made: list[bytes] = []
    try:
        while True:
            made.append(read(65536))
    except SSL.Error as end:
        return b"".join(made), end


def _words(error: SSL.Error) -> str:
    found = error.args[0] if error.args else ()
    return "; ".join(str(one[-1]) for one in found if one[-1]) or type(error).__name__


def _readable(certs: Sequence[Any]) -> tuple[Certificate, ...]:
    """The chain up to the first certificate that cannot be read: a server may show anything."""
    made: list[Certificate] = []
    with suppress(Exception):
        made.extend(described(cert.to_cryptography()) for cert in certs)
    return tuple(made)


def described(made: x509.Certificate) -> Certificate:
    """What a certificate says of itself."""
    try:
        held = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = (*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress)))
    except (x509.ExtensionNotFound, ValueError):  # none, or one that cannot be read: then no name fits
        names = ()
    times = made.not_valid_before_utc, made.not_valid_after_utc
    pem = made.public_bytes(Encoding.PEM).decode()
    return Certificate(made.subject.rfc4514_string(), made.issuer.rfc4514_string(), names, *times, pem)


def wrong_name(name: str | None, chain: Sequence[Certificate]) -> str | None:
    """Why the certificate is not for `name` (RFC 6125 6.4: a wildcard is the whole left-most label)."""
    if not chain:
        return "no certificate that can be read"
    if name is None:
        return "no server name to check the certificate against"
    wild = "*." + name.partition(".")[2]
    held = [one.lower() for one in chain[0].names]
    return None if name.lower() in held or wild.lower() in held else f"certificate is not for {name}"
