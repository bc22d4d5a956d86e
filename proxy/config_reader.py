"""Typed access to the settings that were given, with defaults and range checks.  Pure.

Before: `proxy.config_values` read flags and file.  Next: `proxy.config` asks here for each value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from proxy.config_values import Setting, feature_gates


class Reader:
    """Typed access to settings; the kinds were checked when they were read."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings

    def given(self, key: str) -> Setting | None:
        """The setting itself, to blame it."""
        return self._settings.get(key)

    def text(self, key: str, default: str = "") -> str:
        """A string."""
        setting = self._settings.get(key)
        return str(setting.value) if setting is not None else default

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean."""
        setting = self._settings.get(key)
        return bool(setting.value) if setting is not None else default

    def gate(self, name: str) -> bool:
        """A feature gate that is on unless it was turned off."""
        setting = self._settings.get("featureGates")
        return setting is None or feature_gates(setting.value).get(name, True)

    def number(self, key: str, default: int, low: int, high: int) -> int:
        """An integer within `low` and `high`."""
        setting = self._settings.get(key)
        if setting is None:
            return default
        value = setting.value
        assert isinstance(value, int)  # noqa: S101 # read_file and read_flags checked the kind
        if not low <= value <= high:
            raise setting.error(f"must be between {low} and {high}, not {value}")
        return value

    def seconds(self, key: str, default: float) -> float:
        """A duration in seconds, not negative."""
        setting = self._settings.get(key)
        if setting is None:
            return default
        value = setting.value
        assert isinstance(value, float)  # noqa: S101 # read_file and read_flags checked the kind
        if value < 0:
            raise setting.error("must not be negative")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        setting = self._settings.get(key)
        value = setting.value if setting is not None else ()
        assert isinstance(value, tuple)  # noqa: S101 # read_file and read_flags checked the kind
        return value

    def check(self, key: str, test: Callable[[str], bool], message: str) -> str:
        """A string that passes `test`; "" when it was not given."""
        setting = self._settings.get(key)
        if setting is None:
            return ""
        if not test(str(setting.value)):
            raise setting.error(f"{str(setting.value)!r} {message}")
        return str(setting.value)
