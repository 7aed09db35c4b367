"""JSON bodies: read into dataclasses whose fields are options, and described as schemas."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from charlm.options import Option, Range, check_options, options_of
from charlm.server.errors import ProtocolError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def read_body(kind: type[T], body: bytes) -> T:
    """A request from its JSON object. null stands for the default; other fields are ignored.

    Raises ProtocolError for what is no such object, and OptionError for a value out of its range.
    """
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ProtocolError(400, "the body is not a JSON object")
    hints, fields = _hints(kind), {}
    for field, _ in options_of(kind):
        value = values.get(field.name)
        if value is not None:
            fields[field.name] = _converted(value, hints[field.name], field.name)
        elif field.default is MISSING:
            raise ProtocolError(400, f"`{field.name}`: is missing", field.name)
    request = kind(**fields)
    check_options(request)
    return request


_hints = cache(get_type_hints)  # which takes a millisecond


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _converted(value: Any, hint: Any, name: str) -> Any:
    """The value of a field in its type. Raises ProtocolError for another type."""
    for kind in _kinds(hint):
        converted = _of_kind(value, kind)
        if converted is not None:
            return converted
    wanted = " or ".join(dict.fromkeys(_described(kind) for kind in _kinds(hint)))
    raise ProtocolError(400, f"`{name}`: must be {wanted}", name)


def _kinds(hint: Any) -> list[Any]:
    """The members of a union, or the type itself; without None."""
    is_union = get_origin(hint) in (Union, types.UnionType)
    return [kind for kind in (get_args(hint) if is_union else [hint]) if kind is not type(None)]


def _of_kind(value: Any, kind: Any) -> Any:
    """The value as this type; None if it is of another one."""
    origin = get_origin(kind)
    if origin is Sequence:
        (inner,) = get_args(kind)
        if not isinstance(value, list):
            return None
        if inner is int and all(type(item) is int for item in value):
            return value
        converted = [_of_kind(item, inner) for item in value]
        return None if any(item is None for item in converted) else converted
    if origin is Mapping:
        return value if isinstance(value, dict) else None
    if kind is str:
        return value if isinstance(value, str) and _is_text(value) else None
    if kind is bool or isinstance(value, bool) or not isinstance(value, int | float):
        return value if kind is bool and isinstance(value, bool) else None
    try:
        number = float(value)
    except OverflowError:
        return None
    if kind is int:
        return int(value) if number.is_integer() else None
    return number if math.isfinite(number) else None


def _is_text(value: str) -> bool:
    """Whether all characters are Unicode: JSON can hold halves of a pair of surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(kind: Any) -> str:
    if get_origin(kind) is Sequence:
        inner = get_args(kind)[0]
        names = {str: "texts", int: "token ids"}
        return f"a list of {names.get(inner, 'lists of token ids')}"
    return "an object" if get_origin(kind) is Mapping else NAMES[kind]


# --- schemas of OpenAPI ---


def schema(kind: type[DataclassInstance]) -> dict[str, Any]:
    """The schema of a request."""
    hints = _hints(kind)
    fields = list(options_of(kind))
    required = [field.name for field, _ in fields if field.default is MISSING]
    properties = {f.name: _property(f, about, hints[f.name]) for f, about in fields}
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
    }


def _property(field: Field[Any], about: Option, hint: Any) -> dict[str, Any]:
    kinds = [_type_schema(kind, about) for kind in _kinds(hint)]
    if field.default is not MISSING:
        kinds.append({"type": "null"})
    property: dict[str, Any] = {"anyOf": kinds} if len(kinds) > 1 else dict(kinds[0])
    property["description"] = about.help
    if field.default not in (MISSING, None):
        property["default"] = field.default
    return property


def _type_schema(kind: Any, about: Option) -> dict[str, Any]:
    if get_origin(kind) is Sequence:
        return {"type": "array", "items": _type_schema(get_args(kind)[0], about)}
    if get_origin(kind) is Mapping:
        return {"type": "object"}
    found: dict[str, Any] = {"type": TYPES[kind]}
    limits = about.limits
    if isinstance(limits, Range) and kind in (int, float):
        found["exclusiveMinimum" if limits.exclude_low else "minimum"] = limits.low
        if limits.high < math.inf:
            found["exclusiveMaximum" if limits.exclude_high else "maximum"] = limits.high
    return found
