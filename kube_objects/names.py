"""The rules for names in API objects: each function returns what is wrong, or None when the name is good.

Used by validation of manifests in both daemons. Pure. Sources: RFC 1035, RFC 1123 and the API conventions
(docs "Object Names and IDs", "Labels and Selectors", the API fields that quote them).
"""

from __future__ import annotations

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


def is_dns_label(name: str) -> str | None:
    """RFC 1123 label, such as a container name: at most 63 characters."""
    if not name:
        return "must not be empty"
    if len(name) > 63:
        return f"must have at most 63 characters, has {len(name)}"
    if not _LABEL.match(name):
        return f"{name!r} must be lower case letters, digits and '-', and begin and end with a letter or digit"
    return None


def is_dns_subdomain(name: str) -> str | None:
    """RFC 1123 subdomain, such as the name of a Pod: labels joined by dots, at most 253 characters."""
    if not name:
        return "must not be empty"
    if len(name) > 253:
        return f"must have at most 253 characters, has {len(name)}"
    if not _SUBDOMAIN.match(name):
        return f"{name!r} must be lower case letters, digits, '-', '.', and each part begin and end alphanumeric"
    return None


def is_qualified_name(name: str) -> str | None:
    """Key of a label or annotation: optional DNS prefix and '/', then at most 63 letters, digits, '-', '_', '.'."""
    prefix, slash, base = name.rpartition("/")
    if slash and (problem := is_dns_subdomain(prefix)):
        return f"prefix {problem}"
    if not base:
        return "must not be empty" if not slash else "name after '/' must not be empty"
    if len(base) > 63:
        return f"must have at most 63 characters, has {len(base)}"
    if not _QUALIFIED.match(base):
        return f"{base!r} must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
    return None


def is_label_value(value: str) -> str | None:
    """Value of a label: empty, or at most 63 letters, digits, '-', '_', '.', beginning and ending alphanumeric."""
    if not value:
        return None
    if len(value) > 63:
        return f"must have at most 63 characters, has {len(value)}"
    if not _QUALIFIED.match(value):
        return f"{value!r} must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
    return None


def is_port_name(name: str) -> str | None:
    """Name of a container port (RFC 6335 service name): at most 15 characters, at least one letter, no '--'."""
    if not name:
        return "must not be empty"
    if len(name) > 15:
        return f"must have at most 15 characters, has {len(name)}"
    if not _PORT_NAME.match(name):
        return f"{name!r} must be lower case letters, digits and '-', and begin and end with a letter or digit"
    if "--" in name:
        return f"{name!r} must not contain '--'"
    if not re.search("[a-z]", name):
        return f"{name!r} must contain at least one letter"
    return None


def is_env_name(name: str) -> str | None:
    """Name of an environment variable: printable ASCII without '=' (KEP-4369, on by default since 1.32)."""
    if not name:
        return "must not be empty"
    if any(char == "=" or not " " <= char <= "~" for char in name):
        return f"{name!r} must be printable ASCII characters other than '='"
    return None


def is_config_key(name: str) -> str | None:
    """Key of a ConfigMap or Secret, which is also a file name: at most 253 letters, digits, '-', '_', '.'."""
    if not name:
        return "must not be empty"
    if len(name) > 253:
        return f"must have at most 253 characters, has {len(name)}"
    if not _CONFIG_KEY.match(name):
        return f"{name!r} must be letters, digits, '-', '_' and '.'"
    if name == "." or name.startswith(".."):
        return f"{name!r} must not be '.' and not begin with '..'"
    return None


def is_port_number(port: int) -> str | None:
    """A port that can be listened on."""
    return None if 1 <= port <= 65535 else f"must be between 1 and 65535, not {port}"
