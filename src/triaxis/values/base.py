"""What every value is: frozen, self-checking, and equal after a trip through JSON.

A value holds numbers, strings, tuples and other values; never a module, a tensor or a data set.
``value.to_json()`` gives plain data with a ``schema`` number, ``Class.from_json(data)`` gives the value back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from triaxis.errors import ConfigError

SCHEMA = 1

Axis = Literal["depth", "width", "resolution"]
AXES: tuple[Axis, ...] = ("depth", "width", "resolution")


def canonical_json(data: Any) -> str:
    """Return the one JSON text of plain data: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(data: Any) -> str:
    """Return 16 hexadecimal characters that identify plain data."""
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()[:16]


def _encode(item: Any) -> Any:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {f.name: _encode(getattr(item, f.name)) for f in fields(item)}
    if isinstance(item, tuple | list):
        return [_encode(part) for part in item]
    if isinstance(item, dict):
        return {key: _encode(part) for key, part in item.items()}
    return item


def _decode(kind: Any, item: Any) -> Any:
    origin = typing.get_origin(kind)
    if item is None:
        return None
    if origin in (typing.Union, types.UnionType):
        chosen = [k for k in typing.get_args(kind) if k is not type(None)]
        return _decode(chosen[0], item) if len(chosen) == 1 else item
    if origin is tuple:
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_decode(inner[0], part) for part in item)
        return tuple(_decode(k, part) for k, part in zip(inner, item, strict=True))
    if origin is dict:
        return {key: _decode(typing.get_args(kind)[1], part) for key, part in item.items()}
    if isinstance(kind, type) and issubclass(kind, Value):
        return kind._from_plain(item)
    if kind is float:
        return float(item)
    return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """Base of all values: JSON out and in."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with a ``schema`` number, from which `from_json` makes an equal value."""
        return {"schema": SCHEMA, **_encode(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the value that `to_json` wrote.

        Raises:
            ConfigError: The schema number or the fields are not this class's.
        """
        found = data.get("schema")
        if found != SCHEMA:
            raise ConfigError(
                f"{cls.__name__} must have schema {SCHEMA}, got {found!r}: the file was written by another version of triaxis."
            )
        return cls._from_plain({key: item for key, item in data.items() if key != "schema"})

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        kinds = typing.get_type_hints(cls)
        known = {f.name for f in fields(cls)}
        if unknown := set(data) - known:
            raise ConfigError(f"{cls.__name__} has no field {sorted(unknown)}; its fields are {sorted(known)}.")
        try:
            return cls(**{key: _decode(kinds[key], item) for key, item in data.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.__name__} cannot be read: {error}.") from None


def require(holds: bool, message: str) -> None:
    """Raise a `ConfigError` with `message` unless `holds`."""
    if not holds:
        raise ConfigError(message)
