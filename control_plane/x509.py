"""Keys and certificates as values: made, signed, read, judged. Pure; the time is given.

Before: `control_plane.certificates` says what a certificate is for. Next: `control_plane.pki` keeps them in files.
Elliptic curve keys (P-256) throughout, which kubeadm offers as encryptionAlgorithm ECDSA-P256.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SKEW = datetime.timedelta(minutes=5)
"""Clocks of machines differ: what is made now is valid since a moment ago."""


class MaterialError(ValueError):
    """Bytes are no certificate or no key; the text says what they are not."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom a certificate is for: the user `name` of `groups`, and a server on `addresses` (IP addresses or names)."""

    name: str
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    client: bool = True


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign."""

    certificate: x509.Certificate
    key: Key


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(name: str, key: Key, now: datetime.datetime, valid: datetime.timedelta) -> x509.Certificate:
    """A certificate that signs itself and may sign others."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = _builder(subject, subject, key, now, valid)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = made.add_extension(_key_usage(authority=True, rsa_key=isinstance(key, rsa.RSAPrivateKey)), critical=True)
    return made.sign(key, hashes.SHA256())


def issue(
    authority: Authority, subject: Subject, key: Key, now: datetime.datetime, valid: datetime.timedelta
) -> x509.Certificate:
    """A certificate for `subject`; it never outlives its authority."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in subject.groups]
    name = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, subject.name)])
    valid = min(valid, authority.certificate.not_valid_after_utc - now)
    made = _builder(name, authority.certificate.subject, key, now, valid)
    made = made.add_extension(_key_usage(authority=False, rsa_key=isinstance(key, rsa.RSAPrivateKey)), critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage(_usages(subject)), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    made = made.add_extension(identifier, critical=False)
    if subject.addresses:
        names = [_general_name(one) for one in dict.fromkeys(subject.addresses)]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(authority.key, hashes.SHA256())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key) -> bytes:
    """PEM, not encrypted, in the only form that an API server reads a public key from, too."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: Key) -> bytes:
    """PEM of its public half."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def parse_certificate(data: bytes) -> x509.Certificate:
    """The first certificate of a PEM text. Raises MaterialError."""
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise MaterialError("is empty" if not data.strip() else "is not a certificate in PEM") from None


def parse_key(data: bytes) -> Key:
    """A private key in PEM. Raises MaterialError."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise MaterialError("is empty" if not data.strip() else "is not a private key in PEM") from None
    if not isinstance(key, Key):
        raise MaterialError("is neither an elliptic curve key nor an RSA key")
    return key


def belongs(certificate: x509.Certificate, key: Key) -> bool:
    """Whether the certificate is for this key."""
    return certificate.public_key() == key.public_key()


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key has signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def time_problem(certificate: x509.Certificate, now: datetime.datetime) -> str | None:
    """`has expired on ...`, `is valid only from ...`, or None."""
    if now > certificate.not_valid_after_utc:
        return f"has expired on {day(certificate.not_valid_after_utc)}"
    if now < certificate.not_valid_before_utc:
        return f"is valid only from {day(certificate.not_valid_before_utc)} on; is the clock right?"
    return None


def missing_addresses(certificate: x509.Certificate, wanted: Sequence[str]) -> tuple[str, ...]:
    """Of the `wanted` addresses and names those that the certificate is not for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {str(one.value) for one in names}
    except x509.ExtensionNotFound:
        known = set()
    return tuple(one for one in dict.fromkeys(wanted) if one not in known)


def identity(certificate: x509.Certificate) -> tuple[str, tuple[str, ...]]:
    """User name and groups, as an API server reads them."""

    def values(kind: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(part.value) for part in certificate.subject.get_attributes_for_oid(kind))

    return next(iter(values(NameOID.COMMON_NAME)), ""), values(NameOID.ORGANIZATION_NAME)


def problem_of(
    certificate: x509.Certificate, key: Key, authority: x509.Certificate, subject: Subject, now: datetime.datetime
) -> str | None:
    """Why this pair cannot serve `subject` below `authority`; None where it can."""
    if not belongs(certificate, key):
        return "its key is another one"
    if not is_signed_by(certificate, authority):
        return f"it is signed by another authority than {authority.subject.rfc4514_string()} beside it"
    if problem := time_problem(certificate, now):
        return f"it {problem}"
    name, groups = identity(certificate)
    if (name, set(groups)) != (subject.name, set(subject.groups)):
        return f"it is for {name!r}, not for {subject.name!r}"
    if missing := missing_addresses(certificate, subject.addresses):
        return f"it is not for {', '.join(missing)}"
    return None


def day(moment: datetime.datetime) -> str:
    """For people: `2027-11-28 02:40 UTC`."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime.datetime, valid: datetime.timedelta
) -> x509.CertificateBuilder:
    public = key.public_key()
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - SKEW).not_valid_after(now + valid)
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _key_usage(*, authority: bool, rsa_key: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=rsa_key,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _usages(subject: Subject) -> list[x509.ObjectIdentifier]:
    server = [ExtendedKeyUsageOID.SERVER_AUTH] if subject.addresses else []
    return [*server, *([ExtendedKeyUsageOID.CLIENT_AUTH] if subject.client else [])]


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
