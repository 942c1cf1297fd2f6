"""Folders whose sockets' paths are short enough (107 bytes), on a file system that knows holes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="live-") as path:
        yield Path(path)
