"""certificates: what the lab's servers show under STARTTLS. Not here: when TLS starts (server)."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class _Socket(ssl.SSLSocket):
    """Python's own stays open where a client has gone before it is wrapped, so it must not look."""

    def getpeername(self) -> Any:
        """Whoever it is."""


def contexts(folder: Path, names: Sequence[str]) -> dict[str, ssl.SSLContext]:
    """Server contexts good, expired, wrong_name, broken; with `folder`/ca.pem only that fault is seen."""
    kinds = {"good": (names, 30), "expired": (names, -1), "wrong_name": (["another.example"], 30)}
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made, trusted, now = dict[str, ssl.SSLContext](), b"", datetime.now(UTC)
    for kind, (hosts, days) in kinds.items():
        who, file = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, kind)]), folder / f"{kind}.pem"
        cert = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        cert = cert.not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
        cert = cert.add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, hosts)]), critical=False)
        pem = cert.sign(key, SHA256()).public_bytes(Encoding.PEM)
        trusted += pem
        file.write_bytes(pem + secret)
        made[kind] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made[kind].load_cert_chain(file)
        made[kind].sslsocket_class = _Socket
    made["broken"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate no handshake succeeds
    (folder / "ca.pem").write_bytes(trusted)
    return made
