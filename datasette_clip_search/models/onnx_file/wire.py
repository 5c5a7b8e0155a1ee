"""A strict reader of protobuf's wire format: a field that the schema does not list is refused.

ONNX Runtime has its own parser. Both see the same file only if nothing in it is unknown, repeated
or ambiguous.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class OnnxRefused(ValueError):
    "An ONNX file is not one that this release writes; the message names the part, in a few words"


@dataclass(frozen=True)
class Field:
    """A field of a message: "int", "float", "text", "bytes", REFUSED or the schema of a message.

    `most` is how often it may occur; if that is more than once, its value is a list.
    """

    name: str
    kind: str | Mapping[int, "Field"]
    most: int = 1


Schema = Mapping[int, Field]

REFUSED = "refused"
"""The kind of a field that must be absent; its name describes a file that has it."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read(data: memoryview, schema: Schema) -> dict[str, Any]:
    """Return the fields of a message by name. A field that it lacks is missing, or an empty list.

    Bytes are memoryviews of `data`.

    Raises OnnxRefused.
    """
    found: dict[str, Any] = {field.name: [] for field in schema.values() if field.most > 1}
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        field = schema.get(key >> 3)
        if field is None:
            raise OnnxRefused("an unknown field")
        if field.kind is REFUSED:
            raise OnnxRefused(field.name)
        value, at = _value(data, at, key & 7)
        values = _values(value, key & 7, field)
        if field.most == 1:
            if field.name in found or len(values) != 1:
                raise OnnxRefused(f"several values for {field.name}")
            found[field.name] = values[0]
        else:
            found[field.name] += values
            if len(found[field.name]) > field.most:
                raise OnnxRefused(f"more than {field.most} values for {field.name}")
    return found


def _value(data: memoryview, at: int, wire: int) -> tuple[Any, int]:
    if wire == _VARINT:
        return _varint(data, at)
    if wire == _BYTES:
        size, at = _varint(data, at)
    else:
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
    if not 0 <= size <= len(data) - at:
        raise OnnxRefused("a broken field")
    return data[at : at + size], at + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
    raise OnnxRefused("a broken number")


def _values(value: Any, wire: int, field: Field) -> list[Any]:
    kind = field.kind
    if kind == "int":
        if wire == _VARINT:
            return [_signed(value)]
        if wire == _BYTES and field.most > 1:
            return _packed(value, field)
    elif kind == "float":
        if wire == _FIXED32:
            return list(struct.unpack("<f", value))
        if wire == _BYTES and field.most > 1 and len(value) <= 4 * field.most:
            return [number for (number,) in struct.iter_unpack("<f", value)]
    elif wire == _BYTES:
        if kind == "bytes":
            return [value]
        if kind == "text":
            return [_text(value)]
        assert not isinstance(kind, str)
        return [read(value, kind)]
    raise OnnxRefused(f"an unexpected type of {field.name}")


def _packed(data: memoryview, field: Field) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(_signed(number))
        if len(numbers) > field.most:
            raise OnnxRefused(f"more than {field.most} values for {field.name}")
    return numbers


def _text(value: memoryview) -> str:
    if len(value) > 10_000:
        raise OnnxRefused("a name of more than 10,000 bytes")
    return bytes(value).decode()


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
