"""Imports every module that registers commands, so that a dispatcher finds them.

By name: who packs the program looks for imports.
"""

from mirrorgui.qmp import (
    create_commands,
    drive_commands,
    exports_commands,
    jobs_commands,
    mirror_commands,
    nodes_commands,
)

__all__ = [
    "create_commands",
    "drive_commands",
    "exports_commands",
    "jobs_commands",
    "mirror_commands",
    "nodes_commands",
]
