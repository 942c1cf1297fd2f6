"""What ``query-qmp-schema`` tells, read as a client would, and messages held against it."""

from typing import Any

Entity = dict[str, Any]


class Told:
    """The schema of one monitor."""

    def __init__(self, entities: list[Entity]) -> None:
        self._types = {each["name"]: each for each in entities if each["meta-type"] != "event"}
        self._events = {each["name"]: each for each in entities if each["meta-type"] == "event"}
        self.commands = [name for name, each in self._types.items() if "ret-type" in each]
        self.events = list(self._events)

    def require_answer(self, command: str, value: Any) -> None:
        """See that a command may return that."""
        self._require(self._types[command]["ret-type"], value, command)

    def require_event(self, message: dict[str, Any]) -> None:
        """See that an event may be like that."""
        name = message["event"]
        assert name in self._events, f"event {name} is not told of"
        self._require(self._events[name]["arg-type"], message.get("data", {}), name)

    def returned(self, command: str) -> "Shape":
        """Return the shape of what a command returns."""
        return self.shape(self._types[command]["ret-type"])

    def held(self, event: str) -> "Shape":
        """Return the shape of what an event holds."""
        return self.shape(self._events[event]["arg-type"])

    def shape(self, name: str, above: tuple[str, ...] = ()) -> "Shape":
        """Return a type without its name: words, or members by name with what they need."""
        entity = self._types[name]
        match entity["meta-type"]:
            case "builtin":
                return entity["json-type"]
            case "enum":
                return {"words": set(entity["values"])}
            case "array":
                return [self.shape(entity["element-type"], above)]
        if name in above:
            return "..."
        above = (*above, name)
        members = {
            each["name"]: ("default" not in each, self.shape(each["type"], above))
            for each in entity["members"]
        }
        branches = {
            each["case"]: self.shape(each["type"], above) for each in entity.get("variants", [])
        }
        return {"members": members, "branches": branches}

    def _require(self, name: str, value: Any, place: str) -> None:
        entity = self._types[name]
        wrong = f"{place}: {value!r} is no {entity}"
        match entity["meta-type"]:
            case "builtin":
                assert _is(value, entity["json-type"]), wrong
            case "enum":
                assert value in entity["values"], wrong
            case "array":
                assert isinstance(value, list), wrong
                for each in value:
                    self._require(entity["element-type"], each, f"{place}[]")
            case "object":
                assert isinstance(value, dict), wrong
                self._require_members(entity, value, place)
            case "alternate":
                assert any(self._fits(each["type"], value) for each in entity["members"]), wrong

    def _require_members(self, entity: Entity, value: dict[str, Any], place: str) -> None:
        members = list(entity["members"])
        if "tag" in entity:
            (branch,) = [
                each["type"]
                for each in entity["variants"]
                if each["case"] == value.get(entity["tag"])
            ]
            members += self._types[branch]["members"]
        unknown = set(value) - {each["name"] for each in members}
        assert not unknown, f"{place} has {unknown}, which is not told of"
        for member in members:
            name = member["name"]
            if name in value:
                self._require(member["type"], value[name], f"{place}.{name}")
            else:
                assert "default" in member, f"{place} lacks {name}"

    def _fits(self, name: str, value: Any) -> bool:
        try:
            self._require(name, value, "")
        except AssertionError:
            return False
        return True


Shape = Any
"""A json-type, ``{"words": set}``, ``[shape]``, or ``{"members": ..., "branches": ...}``."""


def _is(value: Any, json_type: str) -> bool:
    if json_type == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    kinds = {"string": str, "boolean": bool, "null": type(None), "value": object}
    return isinstance(value, kinds[json_type])
