"""Values for the fields of a dataclass, from the command line's text or from JSON, checked against the
fields' types.

Fields may be int, float, bool, str, tuples of those, and any of them or None.
"""
from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from scratchgan.errors import UserError

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def nearest(name: str, names: Iterable[str]) -> str:
    """"; did you mean ...?" with the name most like `name`; empty where none is."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def parse_pairs(config_class: type, pairs: Iterable[str]) -> dict[str, Any]:
    """Values by field from texts "key=value". Raises UserError naming key, value and the type that is
    expected."""
    fields, values = typing.get_type_hints(config_class), {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair}: expected key=value")
        if key not in fields:
            raise UserError(f"--set {pair}: {key!r} is no setting{nearest(key, fields)} "
                            f"(settings: {', '.join(fields)})")
        try:
            values[key] = _parsed(fields[key], text)
        except ValueError:
            raise UserError(f"--set {pair}: {text!r} is no value for {key}, "
                            f"expected {describe(fields[key])}") from None
    return values


def from_json(config_class: type, values: Mapping[str, Any], where: str) -> Any:
    """The dataclass from a JSON object that holds every field. Raises UserError, naming `where`, for anything
    else."""
    fields = typing.get_type_hints(config_class)
    for key in fields.keys() ^ values.keys():
        fault = "missing" if key in fields else "no setting"
        raise UserError(f"{where}: {key!r} is {fault}, expected {', '.join(fields)}")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    check_types(config_class, values, where)
    return config_class(**values)


def check_types(config_class: type, values: Mapping[str, Any], where: str) -> None:
    """Raise UserError, naming `where`, for a value that does not fit the field of its name."""
    fields = typing.get_type_hints(config_class)
    for key, value in values.items():
        if not _fits(fields[key], value):
            raise UserError(f"{where}: {key} is {value!r}, expected {describe(fields[key])}")


def describe(kind: Any) -> str:
    """A field's type in words."""
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        each = describe(members[0])
        return f"{each},{each},..." if members[1:] == (...,) else ",".join(map(describe, members))
    if _is_union(kind):
        return " or ".join("none" if t is type(None) else describe(t) for t in typing.get_args(kind))
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}[kind]


def _parsed(kind: Any, text: str) -> Any:
    """`text` as a value of `kind`; ValueError where it is none."""
    if _is_union(kind):
        if text.lower() == "none":
            return None
        return _parsed(next(t for t in typing.get_args(kind) if t is not type(None)), text)
    if typing.get_origin(kind) is tuple:
        return _parsed_tuple(typing.get_args(kind), text.split(","))
    if kind is bool:
        if text.lower() not in WORDS:
            raise ValueError(text)
        return WORDS[text.lower()]
    value = kind(text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(text)
    return value


def _parsed_tuple(members: tuple, texts: list[str]) -> tuple:
    if members[1:] == (...,):
        members = (members[0],) * len(texts)
    if len(members) != len(texts):
        raise ValueError(texts)
    return tuple(_parsed(t, text) for t, text in zip(members, texts))


def _fits(kind: Any, value: Any) -> bool:
    if _is_union(kind):
        return any(_fits(t, value) for t in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        if not isinstance(value, tuple):
            return False
        members = (members[0],) * len(value) if members[1:] == (...,) else members
        return len(members) == len(value) and all(map(_fits, members, value))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)
