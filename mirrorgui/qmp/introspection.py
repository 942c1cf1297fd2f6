"""What ``query-qmp-schema`` tells: the table of commands in the words of QEMU's introspection.

Types have numbers for names, as there.
"""

from collections.abc import Iterable
from typing import Any

from mirrorgui.qmp.schema import COMMANDS
from mirrorgui.qmp.schema_answers import EVENTS, NOTHING, RETURNS
from mirrorgui.qmp.types import (
    Alternate,
    Anything,
    Boolean,
    Deferred,
    Integer,
    Kind,
    ListOf,
    Member,
    Null,
    Object,
    String,
    Words,
)

Entity = dict[str, Any]

_BUILTIN = {"str": "string", "int": "int", "bool": "boolean", "null": "null", "any": "value"}


class _Describer:
    """Collects entities; each type is described once."""

    def __init__(self) -> None:
        self.entities: list[Entity] = []
        self._names: dict[int, str] = {}
        self._kept: list[object] = []

    def name_of(self, kind: Kind) -> str:
        """Return the name of a type, and describe it when it is met first."""
        match kind:
            case String():
                return "str"
            case Boolean():
                return "bool"
            case Integer():
                return "int"
            case Null():
                return "null"
            case Anything():
                return "any"
            case Deferred():
                return self.name_of(kind.kind())
            case ListOf():
                return self._list(kind)
            case Words():
                return self._words(kind)
            case Object():
                return self._object(kind, kind)
            case Alternate():
                return self._alternate(kind)
        raise TypeError(kind)

    def _known(self, key: object) -> str | None:
        return self._names.get(id(key))

    def _new(self, key: object, meta_type: str) -> Entity:
        # What has been named must live as long as its identity counts.
        self._kept.append(key)
        entity: Entity = {"name": str(len(self._kept)), "meta-type": meta_type}
        self._names[id(key)] = entity["name"]
        self.entities.append(entity)
        return entity

    def _list(self, kind: ListOf) -> str:
        element = self.name_of(kind.element)
        name = f"[{element}]"
        if not any(entity["name"] == name for entity in self.entities):
            self.entities.append({"name": name, "meta-type": "array", "element-type": element})
        return name

    def _words(self, kind: Words) -> str:
        known = self._known(kind)
        if known:
            return known
        entity = self._new(kind, "enum")
        entity["members"] = [{"name": word} for word in kind.words]
        entity["values"] = list(kind.words)
        return str(entity["name"])

    def _object(self, key: object, kind: Object) -> str:
        known = self._known(key)
        if known:
            return known
        entity = self._new(key, "object")
        entity["members"] = [self._member(member) for member in kind.members]
        if kind.tag:
            tagging = next(member.kind for member in kind.members if member.name == kind.tag)
            assert isinstance(tagging, Words)
            entity["tag"] = kind.tag
            entity["variants"] = [
                {"case": word, "type": self._branch(kind.branches.get(word, ()))}
                for word in tagging.words
            ]
        return str(entity["name"])

    def _branch(self, members: Iterable[Member]) -> str:
        return self._object(members, Object(tuple(members)))

    def _alternate(self, kind: Alternate) -> str:
        known = self._known(kind)
        if known:
            return known
        entity = self._new(kind, "alternate")
        entity["members"] = [{"type": self.name_of(each)} for each in kind.kinds()]
        return str(entity["name"])

    def _member(self, member: Member) -> Entity:
        described: Entity = {"name": member.name, "type": self.name_of(member.kind)}
        if not member.required:
            described["default"] = None
        return described


def describe_commands(names: Iterable[str]) -> list[Entity]:
    """Return the entities of some commands, of the events and of all types that they use."""
    describer = _Describer()
    commands: list[Entity] = [
        {
            "name": name,
            "meta-type": "command",
            "arg-type": describer.name_of(COMMANDS[name]),
            "ret-type": describer.name_of(RETURNS.get(name, NOTHING)),
        }
        for name in names
    ]
    events: list[Entity] = [
        {"name": name, "meta-type": "event", "arg-type": describer.name_of(held)}
        for name, held in EVENTS.items()
    ]
    builtin: list[Entity] = [
        {"name": name, "meta-type": "builtin", "json-type": json_type}
        for name, json_type in _BUILTIN.items()
    ]
    return commands + events + describer.entities + builtin
