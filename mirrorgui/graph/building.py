"""From the options of ``blockdev-add`` to open nodes, one for each level. Everything here blocks.

QEMU's order is kept in what is shown: a node's file before it, its other children after it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirrorgui.block.chain import MAX_CHAIN, NO_BACKING, Below
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import NOT_SHARED, How, open_image, probe
from mirrorgui.block.raw import ProbedRawGuard
from mirrorgui.block.spec import local_path
from mirrorgui.block.walk import identity_of, identity_of_status
from mirrorgui.errors import BlockIOError, ImageError, ImageRefused, InvalidInput, NodeError
from mirrorgui.graph.doors import Link
from mirrorgui.graph.permissions import ALL, Access, Part, by_names

Options = Mapping[str, Any]
Shared = Mapping[object, Callable[[], BlockNode]]
"""What tells an image's file apart -> what returns a node of it that is open already."""

CHILDREN: dict[str, tuple[str, ...]] = {
    "raw": ("file",),
    "qcow2": ("file", "data-file", "backing"),
    "blkdebug": ("image",),
}
"""Driver -> its children's roles."""

GUESSED = "x-guessed"
"""An option of a ``raw`` node that nobody named so: its first sector is guarded."""

_HANDED_DOWN = ("read-only", "auto-read-only", "force-share")
"""Options that a child takes from the node above unless it has its own."""


@dataclass(slots=True)
class BuiltChild:
    """A child of a new node: its role, its name, how the new node reaches it."""

    role: str
    name: str
    part: Part
    link: Link
    access: Access = field(default_factory=Access)


@dataclass(slots=True)
class Built:
    """A new node that nobody knows yet."""

    name: str
    node: BlockNode
    options: Options
    children: list[BuiltChild] = field(default_factory=list)


class Builder:
    """Opens the nodes of one command.

    Args:
        find: returns what a node above holds of a node that exists, by name, or None.
        check_new_name: raises ``NodeError`` for a name that cannot be had.
        automatic_name: makes a name.

    Attributes:
        built: the new nodes, in the order in which they are to be shown.
    """

    def __init__(
        self,
        find: Callable[[str], BlockNode | None],
        check_new_name: Callable[[str], None],
        automatic_name: Callable[[], str],
    ) -> None:
        self._find = find
        self._check_new_name = check_new_name
        self._automatic_name = automatic_name
        self._names: set[str] = set()
        self.built: list[Built] = []

    def build(self, options: Options, *, later: Shared | None = None) -> Built:
        """Open a node and the children that are given inline, or that it names itself.

        Args:
            options: of ``blockdev-add``.
            later: leave the backing file that the image names for ``open_backing``, which takes
                these nodes where it finds their files; by default it is opened now.

        Raises:
            NodeError: a name is taken, makes no sense, or leads to no node.
            InvalidInput: an option is wrong or an image cannot be used. Nothing is left open.
        """
        try:
            return self._build(options, later=later)
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Close everything again."""
        # What was opened last stands on what was opened before, but for backing nodes, which are
        # never closed by the node above.
        for built in reversed(self.built):
            built.node.close()
        self.built = []

    def _build(
        self, options: Options, *, later: Shared | None = None, above: tuple[object, ...] = ()
    ) -> Built:
        if options.get("force-share") and not options.get("read-only"):
            raise InvalidInput("force-share", True, NOT_SHARED)  # before the name, as in QEMU
        roles = CHILDREN.get(options["driver"], ())
        # QEMU opens the file below a format before it looks at the name.
        name = "" if "file" in roles else self._name_of(options)
        given = dict(options)
        given.pop("take-child-perms", None)
        given.pop("unshare-child-perms", None)
        guessed = given.pop(GUESSED, False)
        names: dict[str, str] = {}
        place: int | None = None
        for role in roles:
            if role != "file" and place is None:
                place = len(self.built)
                name = name or self._name_of(options)
            if name and given.get(role) == name:
                raise NodeError(f"Making '{name}' a {role} child of '{name}' would create a cycle")
            if role == "backing" and later is None:
                given, above = self._with_backing(given, names, above)
            if given.get(role) is not None:
                names[role] = given[role] = self._child(given, role, above)
        name = name or self._name_of(options)
        links = _Links(self._look_up)
        how = How(
            field="", nodes=links, without_backing=later is not None, shared=dict(later or {})
        )
        node = open_image({**given, "node-name": name}, how=how)
        if guessed and not node.read_only:
            node = ProbedRawGuard(node)
        if options.get("read-only"):
            node.read_only = True  # also where the child that it was given is not
        made = Built(name, node, options)
        self.built.insert(len(self.built) if place is None else place, made)
        for role, child in names.items():
            access = _asked_for(options) if role == "image" else Access()
            part = part_of(options, role)
            made.children.append(BuiltChild(role, child, part, links.made[child], access))
        return made

    def _name_of(self, options: Options) -> str:
        if "node-name" not in options:
            return self._automatic_name()
        name = str(options["node-name"])
        self._check_new_name(name)
        if name in self._names:
            raise NodeError(f"Duplicate nodes with node-name='{name}'")
        self._names.add(name)
        return name

    def _with_backing(
        self, given: dict[str, Any], names: dict[str, str], above: tuple[object, ...]
    ) -> tuple[dict[str, Any], tuple[object, ...]]:
        """Add the backing file that an image names itself, and what tells its own file apart."""
        file = self._look_up(names.get("file", ""))
        if "backing" in given or file is None:
            return given, above
        above = (*above, identity_of(file))
        found = backing_options(file, above)
        return (given if found is None else {**given, "backing": found}), above

    def _child(self, options: Options, role: str, above: tuple[object, ...] = ()) -> str:
        """Return the name of a child, which is opened when it is given inline."""
        given = options[role]
        if isinstance(given, str):
            if self._look_up(given) is None:
                why = f"{NO_BACKING}: " if role == "backing" else ""
                raise NodeError(f"{why}Cannot find device='{given}' nor node-name='{given}'")
            return given
        handed = {key: options[key] for key in _HANDED_DOWN if key in options}
        if "cache" in options:  # each of its members for itself
            handed["cache"] = {**options["cache"], **given.get("cache", {})}
            given = {key: value for key, value in given.items() if key != "cache"}
        if role == "backing":
            handed["read-only"] = True
            return self._backing({**handed, **given}, above)
        return self._build({**handed, **given}).name

    def _backing(self, options: Options, above: tuple[object, ...]) -> str:
        try:
            return self._build(options, above=above).name
        except InvalidInput as error:
            text = f"{NO_BACKING}: {error.reason}"
            raise ImageRefused(error.field, error.value, text) from error

    def _look_up(self, name: str) -> BlockNode | None:
        for built in self.built:
            if built.name == name:
                return built.node
        return self._find(name)


class _Links(Mapping[str, BlockNode]):
    """The nodes that an image can be opened on by name; keeps the links it has made."""

    def __init__(self, look_up: Callable[[str], BlockNode | None]) -> None:
        self._look_up = look_up
        self.made: dict[str, Link] = {}

    def __getitem__(self, name: str) -> BlockNode:
        node = self._look_up(name)
        if node is None:
            raise KeyError(name)
        return self.made.setdefault(name, Link(node))

    def __iter__(self) -> Iterator[str]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)


def backing_options(file: BlockNode, above: tuple[object, ...]) -> dict[str, Any] | None:
    """Return the options of the image that a qcow2 image names as its backing file, if it does.

    Args:
        file: what the image is stored in.
        above: what tells the files of it and of the images above it apart.

    Raises:
        ImageError: the image is damaged, or its chain is a loop or too long.
        ImageRefused: the name leads nowhere.
    """
    # Only for those who need it: it brings numpy.
    from mirrorgui.block.qcow2.header import read_header

    try:
        header = read_header(file, "")
    except BlockIOError as error:
        text = f"Could not read qcow2 header: {error.strerror}"
        raise ImageRefused("", file.name, text) from error
    if not header.backing_file:
        return None
    below = Below.of(file, header.backing_file, header.backing_format)
    tree = below.tree("")
    path = local_path(tree)
    if len(above) > MAX_CHAIN or _identity_of(path) in above:
        text = f"its backing file {below.full_name} lies above it, or the chain is too long"
        raise ImageError("", below.image, 0, text)
    if "driver" not in tree:
        tree["driver"] = probe(tree, "")
    return tree


def _identity_of(path: str | None) -> object:
    try:
        return identity_of_status(Path(path).stat()) if path is not None else None
    except (OSError, ValueError):
        return None  # its opening says why


def part_of(options: Options, role: str) -> Part:
    """Say what a child is to a node of these options."""
    if role == "backing":
        return Part.BACKING
    if options["driver"] == "qcow2":
        return Part.FORMAT if role == "file" else Part.STORAGE
    is_part = options["driver"] == "raw" and ("offset" in options or "size" in options)
    return Part.STORAGE if is_part else Part.FILTERED


def _asked_for(options: Options) -> Access:
    """What blkdebug was told to need of its child, and not to share."""
    return Access(
        by_names(options.get("take-child-perms", [])),
        ALL & ~by_names(options.get("unshare-child-perms", [])),
    )
