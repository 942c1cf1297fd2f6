"""Options of ``blockdev-add``: from text to nested dictionaries, and taken one by one."""

import json
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from mirrorgui.block.node import BlockNode
from mirrorgui.errors import InvalidInput
from mirrorgui.units import parse_size

Tree: TypeAlias = dict[str, object]

_T = TypeVar("_T")


def parse_json(text: str, field: str) -> Tree:
    """Read what follows ``json:``; dotted keys (``file.filename``) become nested ones.

    Args:
        text: a JSON object.
        field: the option that held it.

    Raises:
        InvalidInput: it is not an object, or a key is given twice.
    """
    try:
        tree = json.loads(text, object_pairs_hook=lambda pairs: _no_duplicates(pairs, field, text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidInput(field, f"json:{text}", f"is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidInput(field, f"json:{text}", "must be a JSON object")
    return crumple(tree, field)


def crumple(tree: Mapping[str, object], field: str) -> Tree:
    """Turn dotted keys into nested dictionaries, as QEMU does.

    Raises:
        InvalidInput: two keys contradict one another.
    """
    result: Tree = {}
    for key, value in tree.items():
        nested = crumple(value, f"{field}.{key}") if isinstance(value, Mapping) else value
        *path, last = key.split(".")
        place = result
        for name in path:
            below = place.setdefault(name, {})
            if not isinstance(below, dict):
                raise InvalidInput(field, key, f"'{name}' is given as a value and as options")
            place = below
        if last in place:
            raise InvalidInput(field, key, "is given twice")
        place[last] = nested
    return result


def _no_duplicates(pairs: list[tuple[str, object]], field: str, text: str) -> Tree:
    tree: Tree = {}
    for key, value in pairs:
        if key in tree:
            raise InvalidInput(field, f"json:{text}", f"'{key}' is given twice")
        tree[key] = value
    return tree


class Options:
    """A driver's options. Every ``take`` removes one; what is left at the end is refused by name.

    Args:
        tree: nested options; not changed.
        field: where they stand, for refusals: ``source``, or ``source.file`` for a child.
    """

    def __init__(self, tree: Mapping[str, object], field: str) -> None:
        self._left = dict(tree)
        self.field = field

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def is_object(self, key: str) -> bool:
        """Say whether an option has options of its own."""
        return isinstance(self._left.get(key), dict)

    def name_of(self, key: str) -> str:
        """Return the whole name of an option, such as ``source.file.filename``."""
        return f"{self.field}.{key}" if self.field else key

    def take(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        """Take a value of a type; ``default`` when it is not given.

        Raises:
            InvalidInput: it is missing and has no default, or is of another type.
        """
        if key not in self._left:
            if default is None:
                raise InvalidInput(self.name_of(key), "", f"Parameter '{key}' is missing")
            return default
        value = self._left.pop(key)
        # bool is an int in Python, not in JSON; command lines and URIs have only strings.
        if kind is bool and value in ("on", "off"):
            value = value == "on"
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidInput(self.name_of(key), value, f"must be {_WORDS[kind]}")
        return value

    def take_size(self, key: str, default: int) -> int:
        """Take a number of bytes: a JSON number, or a string with a suffix.

        Raises:
            InvalidInput: it is neither, or negative.
        """
        if isinstance(self._left.get(key), str):
            text = self.take(key, str)
            try:
                size = parse_size(text)
            except ValueError as error:
                raise InvalidInput(self.name_of(key), text, str(error)) from error
        else:
            size = self.take(key, int, default)
        if size < 0:
            raise InvalidInput(self.name_of(key), size, "expects a non-negative number below 2^64")
        return size

    def take_choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Take one of several words.

        Raises:
            InvalidInput: it is another word.
        """
        value = self.take(key, str, default)
        if value not in choices:
            raise InvalidInput(self.name_of(key), value, f"must be one of {', '.join(choices)}")
        return value

    def take_tree(self, key: str) -> Tree:
        """Take nested options; empty when they are not given.

        Raises:
            InvalidInput: it is something else.
        """
        return self.take(key, dict, {})

    def take_list(self, key: str) -> list[object]:
        """Take a list; empty when it is not given.

        Raises:
            InvalidInput: it is something else.
        """
        return self.take(key, list, [])

    def take_child(self, key: str) -> Tree | str | BlockNode:
        """Take a child node: its options, the name of a node that exists, or what was ``put``.

        Raises:
            InvalidInput: it is missing, or something else.
        """
        value = self._left.get(key)
        if isinstance(value, BlockNode):
            del self._left[key]
            return value
        return self.take(key, str) if isinstance(value, str) else self.take(key, dict)

    def take_rest(self) -> Tree:
        """Take all that is left, for somebody else to judge."""
        rest, self._left = self._left, {}
        return rest

    def take_null(self, key: str) -> bool:
        """Take a JSON null, or the empty string that stands for it in older programs.

        Returns:
            Whether there was one; any other value stays.
        """
        if key not in self._left or self._left[key] not in (None, ""):
            return False
        del self._left[key]
        return True

    def put(self, key: str, child: BlockNode) -> None:
        """Give a child node that is already open to whoever takes it next."""
        self._left[key] = child

    def finish(self) -> None:
        """Refuse what nobody took.

        Raises:
            InvalidInput: naming the first one.
        """
        for key, value in self._left.items():
            raise InvalidInput(self.name_of(key), value, f"Parameter '{key}' is unexpected")


_WORDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    float: "a number",
    dict: "an object",
    list: "a list",
}
