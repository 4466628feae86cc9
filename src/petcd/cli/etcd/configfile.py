"""The configuration file: YAML or JSON, whose keys are the flags' names with the exceptions of the table.

Unknown keys are ignored, keys match in any case, durations are nanoseconds, lists of URLs are one text.
Errors read as Go's, because deployments match on them. Source: contract/config-metrics.md section 1.3.
"""

from __future__ import annotations

from typing import Any, Final

from petcd.cli.etcd.flags import FLAGS
from petcd.cli.etcd.grammar import Given, SetupError
from petcd.cli.etcd.kinds import BadValue, Mismatch, yaml_string
from petcd.server.config import ConfigError

_STRUCTS: Final = {
    "client-transport-security": "securityConfig",
    "peer-transport-security": "securityConfig",
    "socket-options": "SocketOpts",
    "discovery-config": "DiscoveryConfig",
}
_WRONG_NAMES: Final = {"advertise-client-urls": "advertise-peer-urls"}
"""etcd reports this key under another name."""
_ONLY_HERE: Final = {"client-transport-security.allowed-cn": "client_tls.allowed_cns"}


def load(path: str) -> Given:
    """Read the file into the values of the flags it names. Raises ConfigError, SetupError."""
    return decode(_read(path))


def decode(text: bytes) -> Given:
    """The same for a file's content."""
    document = _parse(text)
    given = Given()
    if document is None:
        return given
    if not isinstance(document, dict):
        found = "array" if isinstance(document, list) else _scalar_name(document)
        raise _mismatch(f"cannot unmarshal {found} into Go value of type embed.configYAML")
    root = _lowered(document)
    for flag in FLAGS.values():
        if not flag.key:
            continue
        value = _find(root, flag.key)
        if value is None:
            continue
        try:
            parsed = flag.kind.from_yaml(value)
        except Mismatch as error:
            raise _field_mismatch(flag.key, error) from None
        except BadValue as error:
            if flag.kind.label in ("URLs", "origins"):
                name = _WRONG_NAMES.get(flag.key, flag.key)
                raise SetupError(f"unexpected error setting up {name}: {error}") from None
            raise ConfigError(str(error)) from None
        given.set(flag.name, parsed)
    names = _find(root, "client-transport-security.allowed-cn")
    if names is not None:
        given.set("client-cert-allowed-cn", _strings("client-transport-security.allowed-cn", names))
    return given


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except IsADirectoryError:
        raise ConfigError(f"read {path}: is a directory") from None
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def _parse(text: bytes) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        reason = error.problem or error.context or "unknown problem parsing YAML content"
        raise ConfigError(f"error converting YAML to JSON: yaml: {_where(error)}{reason}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"error converting YAML to JSON: yaml: {reason}") from None


def _where(error: Any) -> str:
    """The line as Go's parser counts it: from 0, except in the scanner; line 0 is not told."""
    import yaml

    line = error.problem_mark.line if error.problem_mark is not None else 0
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1
    if not line and error.context_mark is not None:
        line = error.context_mark.line
    return f"line {line}: " if line else ""


def _lowered(document: dict[Any, Any]) -> dict[str, Any]:
    """Keys in lower case at every level; lists and scalars as they are."""
    return {
        str(key).lower(): _lowered(value) if isinstance(value, dict) else value
        for key, value in document.items()
    }


def _find(root: dict[str, Any], key: str) -> Any:
    value: Any = root
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(value, dict):
            above = ".".join(parts[:depth])
            if above == "peer-transport-security":
                raise ConfigError("invalid peer-transport-security")
            found = _scalar_name(value)
            wanted = f"embed.{_STRUCTS.get(parts[0], parts[0])}"
            raise _mismatch(
                f"cannot unmarshal {found} into Go struct field configYAML.{above} of type {wanted}"
            )
        value = value.get(part)
        if value is None:
            return None
    return value


def _strings(key: str, value: Any) -> tuple[str, ...]:
    try:
        if not isinstance(value, list):
            raise Mismatch(_scalar_name(value), "[]string")
        return tuple(yaml_string(item) for item in value)
    except Mismatch as error:
        raise _field_mismatch(key, error) from None


def _scalar_name(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "string"


def _field_mismatch(key: str, error: Mismatch) -> ConfigError:
    struct = _STRUCTS.get(key.partition(".")[0], "configYAML")
    return _mismatch(
        f"cannot unmarshal {error.found} into Go struct field {struct}.{key} of type {error.wanted}"
    )


def _mismatch(text: str) -> ConfigError:
    return ConfigError(f"error unmarshaling JSON: while decoding JSON: json: {text}")
