"""signing: a DKIM signature over a message's octets, by dkimpy; keys are parsed once and never shown.

Not here: key records in DNS and verdicts (checks), the message itself (message).
"""

from base64 import b64decode, b64encode
from functools import lru_cache
from pathlib import Path
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from smtpkit.address import host_name, refuse_controls
from smtpkit.errors import InvalidInput, refuse
from smtpkit.fields import LINE, read
from smtpkit.parts import split

ALWAYS = "from reply-to subject date message-id to cc mime-version content-type".split()
IF_THERE = """sender in-reply-to references content-transfer-encoding list-id list-unsubscribe
list-unsubscribe-post""".split()
"""Named in h= once more than present, so that none can be added afterwards (RFC 6376 8.15)."""


def signature(octets: bytes, key: Any, selector: str, domain: str) -> bytes:
    """The DKIM-Signature field for a message with CRLF line ends (RFC 6376, relaxed/relaxed).

    `key`: Path of a PEM file, PEM text, a private key of `cryptography`, or a base64 Ed25519 seed (RFC 8463).
    InvalidInput: no From, an unusable key or name (so one over 66 octets), a line that a server would cut.
    """
    if max(map(len, octets.split(b"\r\n"))) > LINE:
        raise InvalidInput("a line is over 998 octets: servers cut it and break the signature; fold it first")
    have = [name for name, _ in read(split(octets)[0])]
    if "from" not in have:
        raise InvalidInput("a message without From cannot be signed (RFC 6376 5.4); add one")
    for what, name in (("selector", selector), ("domain", domain)):
        if not refuse_controls(what, name).isascii():
            raise refuse(what, name, "is no DNS name in ASCII", "write it as it stands in DNS, IDN as xn--")
    selector, domain = host_name("selector", selector), host_name("domain", domain)
    wanted = ALWAYS + [name for name in IF_THERE if name in have]
    names = [name for name in wanted for _ in range(have.count(name) + 1)]
    algorithm, secret = _secret(key)
    where, relaxed = (selector.encode(), domain.encode()), (b"relaxed", b"relaxed")
    try:
        signer = dkim.DKIM(octets, signature_algorithm=algorithm)
        made = signer.sign(*where, secret, canonicalize=relaxed, include_headers=names)
    except (dkim.DKIMException, LookupError) as why:
        raise InvalidInput(f"the header cannot be signed ({why}); see the lint header_lines") from None
    if not all(tag in made for tag in (b" s=%s;" % where[0], b" d=%s;" % where[1], b" i=@%s;" % where[1])):
        raise refuse("domain", domain, "or selector is too long for one line of dkimpy's", "sign in your server")
    return bytes(made.replace(b"\r\n \r\n", b"\r\n"))  # dkimpy may fold once too often, leaving a blank line


def _secret(key: Any) -> tuple[bytes, bytes]:
    """Algorithm and private key as dkimpy wants them."""
    try:
        octets = key.read_bytes() if isinstance(key, Path) else key.encode() if isinstance(key, str) else key
    except (OSError, ValueError) as error:
        named = f" {str(key)!r}" * isinstance(key, Path)  # else it is the key itself
        raise InvalidInput(f"the DKIM key{named} cannot be read ({type(error).__name__}); check its path") from None
    key = _load(octets) if isinstance(octets, bytes) else key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519-sha256", b64encode(key.private_bytes_raw())
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 1024:  # RFC 8301 3.2
        how = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        return b"rsa-sha256", key.private_bytes(serialization.Encoding.PEM, *how)
    raise InvalidInput(f"a DKIM key is RSA of 1024 bits or more, or Ed25519; this is {type(key).__name__}")


@lru_cache(maxsize=8)
def _load(octets: bytes) -> Any:
    """A private key of PEM or a base64 seed; its check costs 40 ms, so it is done once. Errors never show it."""
    try:
        if b"-----BEGIN" in octets:
            return serialization.load_pem_private_key(octets, None)
        return ed25519.Ed25519PrivateKey.from_private_bytes(b64decode(octets, validate=True))
    except (ValueError, TypeError) as error:
        kind = type(error).__name__
        raise InvalidInput(f"the DKIM key cannot be read ({kind}); give unencrypted PEM or its Path") from None
