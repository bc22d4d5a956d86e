"""Text of flags and of the configuration file -> checked single values, each knowing where it came from.

Before: the command line and one YAML file.  Next: `proxy.config` gives them meaning.  Reads the file, otherwise pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

from daemonkit.duration import parse_duration
from daemonkit.strict import field_path, suggest
from daemonkit.yaml_text import Document, TextError, parse_documents
from kube_objects.feature_gates import why_refused
from proxy.config_fields import BY_FLAG, BY_PATH, FIELDS, Field, Kind

_API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
_KIND = "KubeProxyConfiguration"
_MANY_GATES = ("AllAlpha", "AllBeta")
_TRUE, _FALSE = ("true", "t", "1"), ("false", "f", "0")


class ConfigError(ValueError):
    """The configuration cannot be used; the text is the whole line for the person."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value somebody gave: durations are float seconds, lists are tuples of str."""

    field: Field
    value: object
    where: str
    """`/etc/proxy.yaml:12: iptables.syncPeriod` or `flag --iptables-sync-period`."""

    def error(self, message: str) -> ConfigError:
        """The ConfigError that blames this setting."""
        return ConfigError(f"{self.where}: {message}")


def read_flags(argv: Sequence[str]) -> dict[str, Setting]:
    """Flags that were given, by name without dashes.  Raises ConfigError; SystemExit(0) after --help and --version."""
    command = click.Command(
        "longshore-proxy",
        params=_options(),
        help=_HELP,
        context_settings={
            "max_content_width": 110,
            "help_option_names": ["-h", "--help"],
            "token_normalize_func": lambda token: token.replace("_", "-"),  # as pflag does
        },
    )
    command.params.append(_version_option())
    try:
        # pflag allows -v=4 where click takes the equals sign for a part of the value.
        context = command.make_context(
            "longshore-proxy", [text.replace("-v=", "--v=", 1) if text.startswith("-v=") else text for text in argv]
        )
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None
    except click.UsageError as error:
        raise ConfigError(f"cannot read the command line: {error.format_message()}") from None
    given: dict[str, Setting] = {}
    for flag, field in BY_FLAG.items():
        text = context.params[_parameter(flag)]
        if text is not None:
            where = f"flag --{flag}"
            given[flag] = Setting(field, _flag_value(field, text, where), where)
    return given


def read_file(path: Path) -> dict[str, Setting]:
    """Settings of a KubeProxyConfiguration file, by field path such as "iptables.syncPeriod".  Raises ConfigError."""
    try:
        documents = parse_documents(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except TextError as error:
        where = f"{path}:{error.line}" if error.line is not None else f"{path}"
        raise ConfigError(f"{where}: {error.message}") from None
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise ConfigError(f"{path}: must hold one {_KIND}, holds {len(documents)} documents")
    document = documents[0]
    settings = {setting.field.path: setting for setting in _walk(path, document, documents[0].value, ())}
    for key, wanted in (("apiVersion", _API_VERSION), ("kind", _KIND)):
        if key not in settings:
            raise ConfigError(f"{path}: {key}: required field is missing, must be {wanted}")
        if settings[key].value != wanted:
            raise settings[key].error(f"must be {wanted}, not {settings[key].value!r}")
    return settings


_HELP = (
    "The service proxy of a Longshore node. Reads Service and EndpointSlice files from --manifest-dir and pods from "
    "the agent, and programs the kernel. Takes kube-proxy's flags and configuration file."
)


def _parameter(flag: str) -> str:
    return "flag_" + flag.replace("-", "_")


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = []
    for flag, field in BY_FLAG.items():
        names = [_parameter(flag), f"--{flag}", *(["-v"] if flag == "v" else [])]
        text = f"{field.use.value}: {field.why}" if field.why else field.path
        optional = {"is_flag": False, "flag_value": "true"} if field.kind is Kind.BOOL else {}
        options.append(
            click.Option(names, type=str, default=None, help=text, metavar=field.kind.name, **optional)  # type: ignore[arg-type] # click's stubs cannot spread keyword arguments
        )
    return options


def _version_option() -> click.Option:
    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(f"longshore-proxy {version('longshore')}")
            context.exit()

    return click.Option(["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="and exit")


def _flag_value(field: Field, text: str, where: str) -> object:
    if field.kind is Kind.STRINGS:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if field.kind is Kind.GATES:
        _check_flag_gates(text, where)
    if field.kind in (Kind.STRING, Kind.ANY, Kind.GATES):
        return text
    if field.kind is Kind.DURATION:
        return _duration(text, where)
    if field.kind is Kind.BOOL:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{where}: must be true or false, not {text!r}")
        return text.lower() in _TRUE
    try:
        return int(text) if field.kind is Kind.INT else float(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not a number") from None


def _walk(path: Path, document: Document, value: Mapping[str, object], at: tuple[str, ...]) -> Iterator[Setting]:
    for key, item in value.items():
        here = (*at, key)
        name = ".".join(here)
        where = f"{path}:{document.line_of(here)}: {field_path(here)}"
        field = BY_PATH.get(name)
        if field is None:
            if not any(known.path.startswith(f"{name}.") for known in FIELDS):
                siblings = {p.split(".")[len(at)] for p in BY_PATH if p.split(".")[: len(at)] == list(at)}
                raise ConfigError(f"{where}: unknown field{suggest(key, sorted(siblings))}")
            if isinstance(item, dict):
                yield from _walk(path, document, item, here)
            elif item is not None:
                raise ConfigError(f"{where}: must be a mapping")
        elif item is not None:
            yield Setting(field, _file_value(field, item, where), where)


_PLAIN: dict[Kind, tuple[type, ...]] = {
    Kind.STRING: (str,),
    Kind.BOOL: (bool,),
    Kind.INT: (int,),
    Kind.FLOAT: (int, float),
    Kind.ANY: (object,),
}


def _file_value(field: Field, item: object, where: str) -> object:
    wrong = ConfigError(f"{where}: must be {field.kind.value}, not {item!r}")
    if field.kind is Kind.DURATION:
        if not isinstance(item, str):
            raise wrong
        return _duration(item, where)
    if field.kind is Kind.STRINGS:
        if not isinstance(item, list) or not all(isinstance(part, str) for part in item):
            raise wrong
        return tuple(item)
    if field.kind is Kind.GATES:
        if not isinstance(item, dict) or not all(isinstance(part, bool) for part in item.values()):
            raise wrong
        _check_gates(item, where)
        return item
    if not isinstance(item, _PLAIN[field.kind]) or (isinstance(item, bool) and field.kind in (Kind.INT, Kind.FLOAT)):
        raise wrong
    return item


def _check_flag_gates(text: str, where: str) -> None:
    """What is cut off or mistyped must not turn a gate off.  Raises ConfigError."""
    for pair in filter(None, text.split(",")):
        if pair.partition("=")[2].strip().lower() not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{where}: must be pairs such as AllowServiceExternalIPs=true, not {pair!r}")
    _check_gates(feature_gates(text), where)


def _check_gates(gates: Mapping[str, bool], where: str) -> None:
    """A gate of another program changes nothing here, one that nobody knows is refused.  Raises ConfigError."""
    for name, value in gates.items():
        if why := why_refused(name, value):
            raise ConfigError(f"{where}: {why}")
        if name in _MANY_GATES and value:
            raise ConfigError(f"{where}: feature gate {name} cannot be true here: not supported yet")


def feature_gates(value: object) -> dict[str, bool]:
    """Of a file's mapping, or as the flag has them: `A=true,B=false`."""
    if isinstance(value, Mapping):
        return dict(value)
    pairs = (part.partition("=") for part in str(value).split(",") if part)
    return {name.strip(): text.strip().lower() in _TRUE for name, _, text in pairs}


def _duration(text: str, where: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
