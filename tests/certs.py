"""certs: certificates for test servers: a CA, what it signed, and what is wrong in one way each.

Belongs here: making and keeping PEM files. Not here: servers.
"""

import atexit
import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

KINDS = ("good", "expired", "future", "wrong_name", "self_signed", "other_ca")
"""`good` is signed by the CA of `ca.pem`; each other kind has one thing wrong."""
Key = ec.EllipticCurvePrivateKey


def make(folder: Path, name: str) -> Path:
    """`<kind>.pem` (certificate, then key) for `name`, each kind, and `ca.pem`, all in `folder`."""
    folder.mkdir(exist_ok=True)
    roots = {which: _root(which) for which in ("ca", "other_ca")}
    (folder / "ca.pem").write_bytes(roots["ca"][1].public_bytes(Encoding.PEM))
    for kind in KINDS:
        key = _key()
        days = {"expired": (-60, -1), "future": (10, 60)}.get(kind, (-60, 60))
        issuer = None if kind == "self_signed" else roots["other_ca" if kind == "other_ca" else "ca"]
        leaf = _sign(key, kind, "another-host.example" if kind == "wrong_name" else name, days, issuer)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{kind}.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + secret)
    return folder


@cache
def kept(name: str = "mx.fault.example") -> Path:
    """The same, made once a test run."""
    folder = Path(mkdtemp(prefix="smtpkit-certs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make(folder, name)


def _key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _root(which: str) -> tuple[Key, x509.Certificate]:
    key = _key()
    return key, _sign(key, which, None, (-90, 365), None)


def _sign(
    key: Key, title: str, host: str | None, days: tuple[int, int], by: tuple[Key, x509.Certificate] | None
) -> x509.Certificate:
    now = datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"smtpkit test {title}")])
    signer, issuer = (by[0], by[1].subject) if by else (key, who)
    builder = (
        x509.CertificateBuilder(issuer, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    above = (by[0] if by else key).public_key()
    held: list[x509.ExtensionType] = [x509.SubjectKeyIdentifier.from_public_key(key.public_key())]
    held += [x509.AuthorityKeyIdentifier.from_issuer_public_key(above)]  # Python 3.13 asks for both (RFC 5280)
    held += [x509.SubjectAlternativeName([x509.DNSName(host)])] if host else []
    if host is None:
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                               "key_agreement", "encipher_only", "decipher_only"), False)  # fmt: skip
        held.append(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage))
    for extension in held:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, SHA256())
