"""How an image is opened: what is handed down from a node to its children."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from mirrorgui.block.node import BlockNode
from mirrorgui.block.options import Options


@dataclass(frozen=True, slots=True)
class How:
    """How to open; handed down from a node to its children.

    Attributes:
        field: the option that named the image, for refusals: ``source``, ``target``, ...
        read_only: open for reading, unless the options say otherwise.
        force_share: look at it although others write, without locks; for reading only.
        locking: QEMU's image locks, unless the options say otherwise: ``auto``, ``on``, ``off``.
        write_out: see ``FileNode``; bytes.
        nodes: open nodes by their node-name, for children that are given by name.
        without_backing: leave the backing file that the image names for ``open_backing``.
        shared: how to use, in a backing chain, images that are open already and must not be opened
            a second time, by what tells their files apart.
        above: what tells the files of the images above in the backing chain apart, the top first;
            an image that needs none of them is the top itself.
        depth: how deep the options are nested that are opened now.
    """

    field: str = "filename"
    read_only: bool = False
    force_share: bool = False
    locking: str = "auto"
    write_out: int = 0
    nodes: Mapping[str, BlockNode] = dataclasses.field(default_factory=dict)
    without_backing: bool = False
    shared: Mapping[object, Callable[[], BlockNode]] = dataclasses.field(default_factory=dict)
    above: tuple[object, ...] = ()
    depth: int = 0


Driver: TypeAlias = Callable[[Options, How], BlockNode]
"""Opens a node from its own options. It closes what it opened when it fails."""
