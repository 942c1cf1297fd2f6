"""Serve one file over NBD as the application does: a Drive in front, every write tracked.

``python -m tests.bench.nbd_serve SOCKET FILE [--bare]``, until it is terminated.
"""

import argparse
import signal

from mirrorgui.block.file import FileNode
from mirrorgui.block.node import BlockNode
from mirrorgui.errors import BlockIOError
from mirrorgui.mirror.bitmap import DirtyBitmap
from mirrorgui.mirror.drive import Drive
from mirrorgui.mirror.guest import Tracking
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.server import NbdServer
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import KiB


class Nobody:
    """Listens to the tracking as the job would."""

    def guest_dirtied(self, length: int) -> None:
        """Nothing is copied here."""

    def guest_mirrored(self, offset: int, length: int) -> None:
        """Nothing is copied here."""

    def guest_target_failed(self, error: BlockIOError) -> None:
        """There is no target."""


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("file")
    parser.add_argument("--bare", action="store_true", help="the file itself, without tracking")
    arguments = parser.parse_args()
    file = FileNode(arguments.file)
    node: BlockNode = file
    if not arguments.bare:
        drive = Drive(file)
        drive.attach(Tracking(DirtyBitmap(file.size, 64 * KiB), Nobody()))
        node = drive
    server = NbdServer(NbdAddress(socket_path=arguments.socket))
    server.add_export(Export("disk", node), default=True)
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop()
    file.close()


if __name__ == "__main__":
    main()
