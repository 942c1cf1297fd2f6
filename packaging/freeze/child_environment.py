"""Run by a frozen program before anything else: what it starts must not load its libraries.

The program finds its own libraries by LD_LIBRARY_PATH, which its loader has read by now. Another
program that inherits it, such as qemu-nbd or the one that opens a folder, would take ours for the
system's. PyInstaller keeps what was set before under another name.
"""

import os
import sys

if sys.platform.startswith("linux"):
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = before
