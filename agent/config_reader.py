"""The values of a configuration, one by one: what the settings say, checked, in the form the agent uses.

Before: config_values.py has read file and flags.  Next: config.py puts AgentConfig together, config_rules.py what
depends on several of them.  Every error names the place of its value.  Effects: asks whether named files and
directories exist.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from agent.config_fields import FIELDS, FLAGS
from agent.config_values import Setting, default_of
from agent.container_spec.sysctls import pattern_problem
from agent.node.labels import forbidden_labels_problem
from kube_objects.names import is_dns_subdomain, is_label_value, is_qualified_name
from kube_objects.quantity import parse_quantity

if TYPE_CHECKING:
    pass

RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")

T = TypeVar("T")


class ConfigReader:
    """Typed access to the settings: each method checks one shape of value and names its place in the error."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self.settings = settings

    def setting(self, name: str) -> Setting:
        """What was said, or the default."""
        field = FIELDS.get(name) or FLAGS[name]
        return self.settings.get(name) or Setting(default_of(field), field=name)

    def typed(self, name: str, kind: type[T]) -> T:
        """The value, which the table of fields says is of this kind."""
        value = self.setting(name).value
        if not isinstance(value, kind):
            raise TypeError(f"the table of fields gives {name} the wrong kind: {value!r}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The same of one that may be absent."""
        return None if self.setting(name).value is None else self.typed(name, kind)

    def text(self, name: str) -> str:
        """A text."""
        return self.typed(name, str)

    def absolute(self, name: str) -> str:
        """A path from the root on, "" for none."""
        text = self.text(name)
        if text and (not text.startswith("/") or ".." in text.split("/")):
            raise self.setting(name).error(f"{text!r} must be an absolute path without '..'")
        return str(PurePosixPath(text)) if text else ""

    def required_path(self, name: str) -> str:
        """The same of one that must be there."""
        text = self.absolute(name)
        if not text:
            raise self.setting(name).error("must be an absolute path, not empty")
        return text

    def joined_file(self, name: str) -> Path | None:
        """A file that counts on a node that joins a cluster; there it must exist."""
        text = self.absolute(name)
        if text and self.text("kubeconfig") and not Path(text).exists():
            raise self.setting(name).error(f"file {text} does not exist")
        return Path(text) if text else None

    def manifest_directory(self, name: str) -> Path | None:
        """A directory that exists, None for none. A node that joins a cluster may get its static pods later, or none:
        there one that is missing is empty, as for the kubelet.
        """
        text = self.absolute(name)
        if not text:
            return None
        path = Path(text)
        if not path.exists():
            if self.text("kubeconfig"):
                return path
            raise self.setting(name).error(f"directory {text} does not exist")
        if not path.is_dir():
            raise self.setting(name).error(f"{text} is not a directory")
        return path

    def file(self, name: str) -> str:
        """A file that exists if it was named, "" for none; the default's need not."""
        text = self.absolute(name)
        if text and name in self.settings and not Path(text).exists():
            raise self.setting(name).error(f"file {text} does not exist")
        return text

    def endpoint(self, name: str) -> str | None:
        """A socket, None for none."""
        text = self.text(name)
        if text and not text.startswith(("unix:///", "/")):
            raise self.setting(name).error(f"{text!r} must be a socket such as unix:///run/containerd/containerd.sock")
        return text or None

    def addresses(self, name: str) -> tuple[str, ...]:
        """IP addresses, of a list or of words with commas between them."""
        setting = self.setting(name)
        value = setting.value
        words = tuple(value) if isinstance(value, tuple) else tuple(part for part in str(value).split(",") if part)
        for word in words:
            try:
                ipaddress.ip_address(word)
            except ValueError:
                raise setting.error(f"{word!r} is not an IP address") from None
        families = [ipaddress.ip_address(word).version for word in words]
        if name == "node-ip" and len(set(families)) != len(families):
            raise setting.error("must be one address, or one of each family")
        return words

    def address(self, name: str) -> str:
        """One IP address."""
        words = self.addresses(name)
        if len(words) != 1:
            raise self.setting(name).error(f"must be one IP address, not {self.setting(name).value!r}")
        return words[0]

    def domain(self, name: str) -> str:
        """A DNS domain without its last dot."""
        text = self.text(name).removesuffix(".")
        if text and (problem := is_dns_subdomain(text)):
            raise self.setting(name).error(problem)
        return text

    def labels(self, name: str) -> dict[str, str]:
        """Labels that a node may have."""
        setting = self.setting(name)
        labels: dict[str, str] = dict(setting.value) if isinstance(setting.value, dict) else {}
        for key, value in labels.items():
            if problem := is_qualified_name(key) or is_label_value(value):
                raise setting.error(problem)
        if problem := forbidden_labels_problem(labels):
            raise setting.error(problem)
        return labels

    def sysctls(self, name: str) -> tuple[str, ...]:
        """Patterns of sysctls that may be allowed."""
        setting = self.setting(name)
        patterns = tuple(setting.value) if isinstance(setting.value, tuple) else ()
        for pattern in patterns:
            if problem := pattern_problem(pattern):
                raise setting.error(problem)
        return patterns

    def reserved(self, name: str) -> dict[str, str]:
        """Amounts that are kept from pods."""
        setting = self.setting(name)
        amounts: dict[str, str] = dict(setting.value) if isinstance(setting.value, dict) else {}
        for key, amount in amounts.items():
            if key not in RESERVABLE:
                raise setting.error(f"{key!r} cannot be reserved, only {', '.join(RESERVABLE)}")
            try:
                if parse_quantity(amount).value < 0:
                    raise ValueError(f"{key} must not be negative, not {amount}")
            except ValueError as error:
                raise setting.error(str(error)) from None
        return amounts
