"""Conversion between frozen values and protobuf messages, by reflection that is complete or fails at import.

A ``Codec`` pairs the fields of a dataclass with those of a message, by name. A field on either side that has no
partner of a type that goes with it raises ``TypeError`` when the codec is made, which is when its module is imported:
nothing is dropped in silence.

| value | message |
|---|---|
| text, number, truth, bytes | the same, singular; ``| None``: ``optional`` |
| ``tuple[T, ...]`` / ``Mapping[str, T]`` | ``repeated`` / ``map`` |
| ``datetime`` | ``Timestamp`` of the same name; unset is None where there may be None |
| ``Digest``, ``Reference`` | a string, checked when it is decoded; ``| None``: empty |
| ``x_ns: int`` | ``Timestamp x``, nanoseconds since 1970, or ``Duration x``; 0 is unset; ``| None``: unset |
| ``x_s: float`` | ``Duration x``; ``| None``: unset, else 0 is unset |
| an enumeration | an enumeration with the same names, or a string: its value |
| a dataclass | a message for which there is a codec; unset: the dataclass's default, or None |
"""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, parse_reference

V = TypeVar("V")
M = TypeVar("M", bound=Message)

Convert = Callable[[Any], Any]

_SECOND_NS: Final = 1_000_000_000
_MAX_DURATION_S: Final = 315_576_000_000  # google/protobuf/duration.proto
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP: Final = "google.protobuf.Timestamp"
_DURATION: Final = "google.protobuf.Duration"

_SCALARS: Final = {
    str: {FieldDescriptor.CPPTYPE_STRING},
    bytes: {FieldDescriptor.CPPTYPE_STRING},
    bool: {FieldDescriptor.CPPTYPE_BOOL},
    int: {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    },
    float: {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT},
}

# Kinds of text that are checked by parsing.
_TEXTS: Final[Mapping[type, Convert]] = {Digest: Digest.parse, Reference: parse_reference}


def to_timestamp(moment: datetime) -> Timestamp:
    """Return ``moment``, which has a time zone."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def from_timestamp(message: Timestamp) -> datetime:
    """Return a time in UTC, to the microsecond."""
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def ns_to_timestamp(time_ns: int) -> Timestamp:
    """Return a time given in nanoseconds since 1970."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    return Timestamp(seconds=seconds, nanos=nanos)


def timestamp_ns(message: Timestamp) -> int:
    """Return nanoseconds since 1970."""
    return message.seconds * _SECOND_NS + message.nanos


def duration_to_ns(message: Duration) -> int:
    """Return nanoseconds."""
    return message.seconds * _SECOND_NS + message.nanos


def ns_to_duration(span_ns: int) -> Duration:
    """Return a span of time given in nanoseconds, both parts with one sign."""
    seconds = abs(span_ns) // _SECOND_NS * (-1 if span_ns < 0 else 1)
    return Duration(seconds=seconds, nanos=span_ns - seconds * _SECOND_NS)


def to_duration(seconds: float) -> Duration:
    """Return a span of time, to the nanosecond.

    Raises:
        InvalidArgumentError: it is longer than protobuf's Duration holds, which is 10,000 years.
    """
    if not abs(seconds) <= _MAX_DURATION_S:
        raise InvalidArgumentError(f"a time of {seconds:.0f} s is too long: the most is {_MAX_DURATION_S} s")
    total_ns = round(seconds * _SECOND_NS)
    whole = int(total_ns / _SECOND_NS)  # towards zero: both parts have one sign
    return Duration(seconds=whole, nanos=total_ns - whole * _SECOND_NS)


def from_duration(message: Duration) -> float:
    """Return seconds."""
    return message.seconds + message.nanos / _SECOND_NS


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """One pair of fields. Without functions the value is taken over as it is."""

    name: str  # of the dataclass
    wire: str  # of the message
    decode: Convert | None = None
    encode: Convert | None = None
    presence: bool = False  # ask whether it is set
    unset: Any = None  # the value if it is not
    keeps_empty: bool = False  # 0 and "" are sent: only None is not


class Codec(Generic[V, M]):
    """Converts one kind of value to one kind of message and back."""

    def __init__(
        self,
        value: type[V],
        message: type[M],
        *,
        nested: "Collection[Codec[Any, Any]]" = (),
        ignored: Collection[str] = (),
        local: Collection[str] = (),
    ) -> None:
        """``nested`` has the codecs of dataclasses within; ``ignored`` the message's fields that callers fill.

        ``local`` are the dataclass's last fields, if they do not travel.

        Raises:
            TypeError: a field without a partner, or with one of another type.
        """
        self.value, self.message = value, message
        self._nested = {codec.value: codec for codec in nested}
        hints = typing.get_type_hints(value)
        assert dataclasses.is_dataclass(value)
        sent = [field for field in dataclasses.fields(value) if field.name not in local]
        if sent != list(dataclasses.fields(value)[: len(sent)]):
            raise TypeError(f"{value.__qualname__}: what does not travel must stand last")
        fields = [self._pair(field, hints[field.name]) for field in sent]
        known = set(message.DESCRIPTOR.fields_by_name)
        if missing := known - {field.wire for field in fields} - set(ignored):
            raise TypeError(f"{value.__qualname__} has nothing for {message.DESCRIPTOR.full_name}: {sorted(missing)}")
        if unknown := set(ignored) - known:
            raise TypeError(f"{message.DESCRIPTOR.full_name} has no fields {sorted(unknown)}")
        self._fields = tuple(fields)
        self._get_wire = _getter([field.wire for field in fields])
        self._get_value = _getter([field.name for field in fields])
        self._decoders = tuple(
            (index, field.wire if field.presence else "", field.decode or _same, field.unset)
            for index, field in enumerate(fields)
            if field.decode is not None or field.presence
        )
        self._encoders = tuple((field.wire, field.encode, field.keeps_empty) for field in fields)

    def decode(self, message: M) -> V:
        """Return the value that ``message`` stands for."""
        values = list(self._get_wire(message))
        has = message.HasField
        for index, asked, convert, unset in self._decoders:
            values[index] = convert(values[index]) if not asked or has(asked) else unset
        return self.value(*values)

    def encode(self, value: V) -> M:
        """Return ``value`` as a message."""
        given: dict[str, Any] = {}
        for (wire, convert, keeps_empty), one in zip(self._encoders, self._get_value(value), strict=True):
            if one or (keeps_empty and one is not None):
                given[wire] = one if convert is None else convert(one)
        return self.message(**given)

    def encode_all(self, values: "typing.Iterable[V]") -> list[M]:
        """Return all of ``values`` as messages."""
        return [self.encode(value) for value in values]

    def decode_all(self, messages: "typing.Iterable[M]") -> tuple[V, ...]:
        """Return what all of ``messages`` stand for."""
        return tuple([self.decode(message) for message in messages])

    def _pair(self, field: "dataclasses.Field[Any]", hint: Any) -> _Field:
        name = field.name
        fields: Mapping[str, Any] = self.message.DESCRIPTOR.fields_by_name
        kind, optional = _without_none(hint)
        wire = fields.get(name)
        if wire is None and name.endswith("_ns") and _is(fields.get(name[:-3]), _TIMESTAMP):
            return _Field(name, name[:-3], timestamp_ns, ns_to_timestamp, presence=optional, keeps_empty=optional)
        if wire is None and name.endswith("_ns") and _is(fields.get(name[:-3]), _DURATION):
            return _Field(name, name[:-3], duration_to_ns, ns_to_duration)
        if wire is None and name.endswith("_s") and _is(fields.get(name[:-2]), _DURATION):
            unset = None if optional else 0
            return _Field(name, name[:-2], from_duration, to_duration, presence=True, unset=unset, keeps_empty=optional)
        if wire is None:
            raise self._misfit(name, "the message has no such field")
        if typing.get_origin(kind) is tuple:
            if not wire.is_repeated:
                raise self._misfit(name, "the message has one, not several")
            return self._sequence(name, typing.get_args(kind)[0], wire)
        if typing.get_origin(kind) is not None:
            return self._mapping(name, typing.get_args(kind)[1], wire)
        if wire.is_repeated:
            raise self._misfit(name, "the message has several, not one")
        decode, encode = self._single(name, kind, wire)
        if wire.message_type is not None:
            unset = None if optional or kind is datetime else _default(field)
            return _Field(name, wire.name, decode, encode, presence=True, unset=unset, keeps_empty=True)
        if kind in _TEXTS and optional and decode is not None:
            return _Field(name, wire.name, lambda text: decode(text) if text else None, encode)
        if optional != wire.has_presence:
            raise self._misfit(name, "one side may leave it out and the other may not")
        # The first value of an enumeration is 0, and false for the encoder below only once converted.
        keeps = optional or (encode is not None and kind not in _TEXTS)
        return _Field(name, wire.name, decode, encode, presence=optional, keeps_empty=keeps)

    def _sequence(self, name: str, kind: Any, wire: FieldDescriptor) -> _Field:
        decode, encode = self._single(name, kind, wire)
        if decode is None or encode is None:
            return _Field(name, wire.name, tuple, None)
        return _Field(name, wire.name, _each(tuple, decode), _each(list, encode))

    def _mapping(self, name: str, kind: Any, wire: FieldDescriptor) -> _Field:
        entry = wire.message_type
        if entry is None or not entry.GetOptions().map_entry:
            raise self._misfit(name, "the message has no map")
        decode, encode = self._single(name, kind, entry.fields_by_name["value"])
        if decode is None or encode is None:
            return _Field(name, wire.name, dict, None)
        return _Field(name, wire.name, _each_value(decode), _each_value(encode))

    def _single(self, name: str, kind: Any, wire: FieldDescriptor) -> tuple[Convert | None, Convert | None]:
        """Return how one value is decoded and encoded; None, None: as it is."""
        if kind in _SCALARS:
            is_bytes = wire.type == FieldDescriptor.TYPE_BYTES
            if wire.cpp_type not in _SCALARS[kind] or is_bytes != (kind is bytes):
                raise self._misfit(name, f"it is no {kind.__name__} in the message")
            return None, None
        if kind in _TEXTS and wire.type == FieldDescriptor.TYPE_STRING:
            return _TEXTS[kind], str
        if kind is datetime and _is(wire, _TIMESTAMP):
            return from_timestamp, to_timestamp
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._enumeration(name, kind, wire)
        nested = self._nested.get(kind)
        if nested is None or wire.message_type is not nested.message.DESCRIPTOR:
            raise self._misfit(name, f"there is no codec between {kind} and {wire.message_type}")
        return nested.decode, nested.encode

    def _enumeration(self, name: str, kind: type[enum.Enum], wire: FieldDescriptor) -> tuple[Convert, Convert]:
        if wire.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return kind, attrgetter("value")
        names: EnumDescriptor | None = wire.enum_type
        if names is None or {one.name for one in names.values} != set(kind.__members__):
            raise self._misfit(name, f"its values are not those of {kind.__qualname__}")
        decoded = {one.number: kind[one.name] for one in names.values}
        encoded = {member: number for number, member in decoded.items()}

        def decode(number: int) -> enum.Enum:
            if number not in decoded:  # proto3 takes any
                raise InvalidArgumentError(f"{name} is {number}, expected one of {', '.join(kind.__members__)}")
            return decoded[number]

        return decode, encoded.__getitem__

    def _misfit(self, name: str, why: str) -> TypeError:
        return TypeError(f"{self.value.__qualname__}.{name} and {self.message.DESCRIPTOR.full_name}: {why}")


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda _: ()
    if len(names) > 1:
        return attrgetter(*names)
    only = attrgetter(*names)
    return lambda value: (only(value),)


def _same(value: Any) -> Any:
    return value


def _each(container: Callable[[Any], Any], convert: Convert) -> Convert:
    return lambda values: container([convert(value) for value in values])


def _each_value(convert: Convert) -> Convert:
    return lambda values: {key: convert(value) for key, value in values.items()}


def _is(wire: FieldDescriptor | None, name: str) -> bool:
    return wire is not None and wire.message_type is not None and bool(wire.message_type.full_name == name)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return a type and whether it may be None instead."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        if len(kinds) == 1:
            return kinds[0], True
    return hint, False


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None
