"""Keys, requests and dates of certificates, as a program of its own: the library for it is large, and needed for a
moment every few months.

Before: `certificate_files` starts it.  Next: its answer, JSON on standard output.  It gets keys and certificates on
standard input, so that no process list shows them.  `request NAME GROUP [HOST...]` makes a signing request for the key
that it gets, or for a new one; `self-signed NAME` makes a server's certificate that signs itself; `read` tells of one.
Errors: status 1 and a line on standard error.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import sys
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def make_request(name: str, group: str, hosts: Sequence[str], key_text: bytes) -> dict[str, Any]:
    """`key`, `request` (both PEM) and `digest`, which names the key and whom it is for.  Raises ValueError."""
    key = serialization.load_pem_private_key(key_text, None) if key_text else ec.generate_private_key(ec.SECP256R1())
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is no elliptic curve key")
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
    made = builder.sign(key, hashes.SHA256())
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding
    public = key.public_key().public_bytes(encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "key": key.private_bytes(encoding.PEM, form, serialization.NoEncryption()).decode(),
        "request": made.public_bytes(encoding.PEM).decode(),
        "digest": hashlib.sha256(public + "/".join((group, name, *hosts)).encode()).hexdigest(),
    }


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def read_certificate(text: bytes) -> dict[str, Any]:
    """Of the first certificate of a PEM text: from when until when (seconds since 1970) it is valid, and the `names` of
    its host, sorted.  Raises ValueError.
    """
    found = x509.load_pem_x509_certificate(text)
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        hosts = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = sorted(str(one.value) for one in hosts)
    return {
        "from": found.not_valid_before_utc.timestamp(),
        "until": found.not_valid_after_utc.timestamp(),
        "names": names,
    }


def make_self_signed(name: str) -> dict[str, Any]:
    """`key` and `certificate` (PEM) of a server of that name, and `until` when it is valid: a year."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}@{int(now.timestamp())}"[-64:])])
    until = now + datetime.timedelta(days=365)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(until)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    form, encoding = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    return {
        "key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
        "certificate": made.sign(key, hashes.SHA256()).public_bytes(encoding).decode(),
        "until": until.timestamp(),
    }


def main(arguments: list[str]) -> int:
    """The exit status."""
    text = sys.stdin.buffer.read()
    try:
        if arguments[0] == "request":
            found = make_request(arguments[1], arguments[2], arguments[3:], text)
        elif arguments[0] == "self-signed":
            found = make_self_signed(arguments[1])
        else:
            found = read_certificate(text)
    except (ValueError, TypeError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
