"""The types that arguments of commands can have, and how a value of JSON is held against them.

Members are looked at in the order of the table, those that nobody knows last, so that of several
mistakes the one that QEMU would name is named. So are its habits: an unknown word, or a number of
less than 64 bits out of its range, is named by its last name only, everything else by its path.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mirrorgui.qmp.errors import QmpError

MISSING: Final = object()
"""The default of a member that is simply left out when it is not given."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands.

    Attributes:
        path: the whole way to it, such as ``server.path`` or ``inject-error[0].event``.
        name: its own name; ``null`` for an element of a list, as QEMU has it.
    """

    path: str = ""
    name: str = ""

    def member(self, name: str) -> "Place":
        """Return the place of a member."""
        return Place(f"{self.path}.{name}" if self.path else name, name)

    def element(self, index: int) -> "Place":
        """Return the place of an element."""
        return Place(f"{self.path}[{index}]", "null")


class Kind(abc.ABC):
    """A type of values."""

    form: type = object
    """What a value of this type is in Python; alternates are told apart by it."""

    def check(self, value: object, place: Place) -> Any:  # noqa: ANN401 - as the type has it
        """Return the value, with defaults filled in below it.

        Raises:
            QmpError: it is none of this type.
        """
        return self._checked(value, place)

    @abc.abstractmethod
    def _checked(self, value: object, place: Place) -> object: ...


def _wrong_type(place: Place, expected: str) -> QmpError:
    return QmpError(f"Invalid parameter type for '{place.path}', expected: {expected}")


class String(Kind):
    """Text."""

    form = str

    def _checked(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise _wrong_type(place, "string")
        return value


class Boolean(Kind):
    """True or false."""

    def _checked(self, value: object, place: Place) -> bool:
        if not isinstance(value, bool):
            raise _wrong_type(place, "boolean")
        return value


class Null(Kind):
    """Nothing, said explicitly."""

    form = type(None)

    def _checked(self, value: object, place: Place) -> None:
        if value is not None:
            raise _wrong_type(place, "null")


class Anything(Kind):
    """Whatever JSON has."""

    def _checked(self, value: object, place: Place) -> object:  # noqa: ARG002 - it is right
        return value


@dataclass(frozen=True)
class Deferred(Kind):
    """A type that is made later, because it contains itself.

    Attributes:
        kind: returns it.
    """

    kind: Callable[[], Kind]

    def _checked(self, value: object, place: Place) -> object:
        return self.kind().check(value, place)


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number of so many bits.

    Attributes:
        bits: 16, 32 or 64.
        signed: whether it may be negative.
    """

    bits: int = 64
    signed: bool = True

    def _checked(self, value: object, place: Place) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._no_number(place)
        low = -(1 << self.bits - 1) if self.signed else 0
        high = 1 << (self.bits - 1 if self.signed else self.bits)
        if low <= value < high:
            return value
        if self.bits == 64 or not -(1 << 63) <= value < 1 << 64:
            raise self._no_number(place)
        prefix = "" if self.signed else "u"
        raise QmpError(f"Parameter '{place.name}' expects {prefix}int{self.bits}_t")

    def _no_number(self, place: Place) -> QmpError:
        if self.signed:
            return _wrong_type(place, "integer")
        return QmpError(f"Parameter '{place.path}' expects uint64")


@dataclass(frozen=True)
class Words(Kind):
    """One of several words."""

    words: tuple[str, ...]
    form = str

    @classmethod
    def of(cls, text: str) -> "Words":
        """Return the type of the words of a text."""
        return cls(tuple(text.split()))

    def _checked(self, value: object, place: Place) -> str:
        if not isinstance(value, str):
            raise _wrong_type(place, "string")
        if value not in self.words:
            raise QmpError(f"Parameter '{place.name}' does not accept value '{value}'")
        return value


@dataclass(frozen=True)
class ListOf(Kind):
    """A list whose elements are all of one type."""

    element: Kind

    def _checked(self, value: object, place: Place) -> list[object]:
        if not isinstance(value, list):
            raise _wrong_type(place, "array")
        return [self.element.check(each, place.element(n)) for n, each in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object, or an argument of a command.

    Attributes:
        name: as it stands in JSON, with hyphens.
        kind: its type.
        required: whether it has to be given.
        default: what stands there when it is not given; ``MISSING`` leaves it out.
    """

    name: str
    kind: Kind
    required: bool = True
    default: object = MISSING


@dataclass(frozen=True)
class Object(Kind):
    """Named members, and more of them as a discriminator says.

    Attributes:
        members: those that are always there.
        tag: the member whose word chooses a branch; empty when there are no branches.
        branches: the members that each word adds; a word that is not there adds none.
    """

    members: tuple[Member, ...] = ()
    tag: str = ""
    branches: Mapping[str, Sequence[Member]] = field(default_factory=dict)
    form = dict

    def _checked(self, value: object, place: Place) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(place, "object")
        checked: dict[str, Any] = {}
        _check_members(self.members, value, place, checked)
        branch = self.branches.get(checked[self.tag], ()) if self.tag else ()
        _check_members(branch, value, place, checked)
        known = {member.name for member in (*self.members, *branch)}
        for name in value:
            if name not in known:
                raise QmpError(f"Parameter '{place.member(name).path}' is unexpected")
        return checked


def _check_members(
    members: Sequence[Member], value: Mapping[str, object], place: Place, checked: dict[str, Any]
) -> None:
    for member in members:
        where = place.member(member.name)
        if member.name in value:
            checked[member.name] = member.kind.check(value[member.name], where)
        elif member.required:
            raise QmpError(f"Parameter '{where.path}' is missing")
        elif member.default is not MISSING:
            checked[member.name] = member.default


@dataclass(frozen=True)
class Alternate(Kind):
    """One of several types, told apart by the form of the value.

    Attributes:
        name: what QEMU calls it, for refusals.
        kinds: returns the types; called late, because trees of nodes contain themselves.
    """

    name: str
    kinds: Callable[[], tuple[Kind, ...]]

    def _checked(self, value: object, place: Place) -> object:
        for kind in self.kinds():
            if isinstance(value, kind.form):
                return kind.check(value, place)
        shown = Place("null") if place.name == "null" else place
        raise _wrong_type(shown, self.name)


STRING, BOOLEAN, NULL, ANYTHING = String(), Boolean(), Null(), Anything()
INT = Integer()
INT32 = Integer(32)
UINT16 = Integer(16, signed=False)
UINT32 = Integer(32, signed=False)
SIZE = Integer(64, signed=False)


def needed(name: str, kind: Kind) -> Member:
    """Return a member that has to be given."""
    return Member(name, kind)


def optional(name: str, kind: Kind, default: object = MISSING) -> Member:
    """Return a member that may be left out."""
    return Member(name, kind, required=False, default=default)
