"""The program that PyInstaller freezes: the ``mirrorgui`` command."""

import sys

from mirrorgui.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
