"""Reading and writing where the platform has no positional calls: one request at a time."""

import errno
import io
import os
import threading


class SeekingFile:
    """A descriptor with a seek position, and the lock that guards it.

    Args:
        fd: stays the caller's.
        read_only: how it was opened.
    """

    def __init__(self, fd: int, *, read_only: bool) -> None:
        self._stream = io.FileIO(fd, "rb" if read_only else "r+b", closefd=False)
        self._lock = threading.Lock()

    def read(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``.

        Raises:
            OSError: EIO when the file ends before.
        """
        with self._lock:
            self._stream.seek(offset)
            done = 0
            while done < len(view):
                count = self._stream.readinto(view[done:])
                if not count:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                done += count

    def write(self, offset: int, view: memoryview) -> None:
        """Write all of ``view`` at ``offset``.

        Raises:
            OSError: any part may have been written.
        """
        with self._lock:
            self._stream.seek(offset)
            done = 0
            while done < len(view):
                done += self._stream.write(view[done:])
