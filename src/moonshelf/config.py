"""Strict settings: frozen dataclasses, ``key=value`` overrides that refuse what they do not know, one hash."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from moonshelf.errors import InputError
from moonshelf.workspace import digest

ConfigT = TypeVar("ConfigT")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def override(config: ConfigT, settings: Iterable[str]) -> ConfigT:
    """A copy of ``config`` with ``"part.name=value"`` settings applied, each checked against its type.

    Raises:
        InputError: an unknown key (with the nearest known ones), or a value of the wrong type.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"a setting without a value: {setting!r}", mend="write it as key=value")
        config = _set(config, key.strip().split("."), value.strip(), key.strip())
    return config


def _set(config: ConfigT, path: list[str], value: str, key: str) -> ConfigT:
    assert dataclasses.is_dataclass(config) and not isinstance(config, type)
    known = {f.name for f in dataclasses.fields(config)}
    if path[0] not in known:
        near = difflib.get_close_matches(path[0], known, n=3) or sorted(known)
        raise InputError(f"unknown setting {key!r}", mend=f"known here: {', '.join(near)}")
    current = getattr(config, path[0])
    if isinstance(current, dict):  # names with numbers
        if len(path) != 2 or path[1] not in current:
            group = ".".join([*key.split(".")[: -len(path)], path[0]])
            raise InputError(
                f"unknown setting {key!r}",
                mend=f"it has {', '.join(current)}: {group}.{next(iter(current))}=1",
            )
        new: Any = {**current, path[1]: _parse(value, float, key)}
    elif len(path) > 1:
        if not dataclasses.is_dataclass(current):
            raise InputError(f"unknown setting {key!r}", mend=f"{path[0]} has no parts")
        new = _set(current, path[1:], value, key)
    elif dataclasses.is_dataclass(current):
        parts = ", ".join(f"{key}.{f.name}" for f in dataclasses.fields(current))
        raise InputError(f"{key!r} is a group of settings", mend=f"set one of {parts}")
    else:
        new = _parse(value, get_type_hints(type(config))[path[0]], key)
    return dataclasses.replace(config, **{path[0]: new})


def _parse(text: str, kind: Any, key: str) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        choices = get_args(kind)
        if text not in choices:
            raise InputError(f"{key} cannot be {text!r}", mend=f"one of {', '.join(map(str, choices))}")
        return text
    if origin is tuple:
        return tuple(_parse(part.strip(), get_args(kind)[0], key) for part in text.split(",") if part.strip())
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        return _parse(text, next(k for k in get_args(kind) if k is not type(None)), key)
    try:
        if kind is bool:
            if text.lower() not in _TRUE + _FALSE:
                raise ValueError
            return text.lower() in _TRUE
        return kind(text)
    except ValueError:
        raise InputError(f"{key} cannot be {text!r}", mend=f"it is of type {kind.__name__}") from None


def as_dict(config: Any) -> dict[str, Any]:
    """A config tree as plain values."""
    return dataclasses.asdict(config)


def config_hash(config: Any) -> str:
    """16 hex digits of the resolved tree; the same settings give the same hash."""
    return digest(as_dict(config))
