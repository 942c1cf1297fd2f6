import errno
import os
from pathlib import Path

import pytest

from mirrorgui.block.create import create_raw
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.units import MiB


def test_a_new_image_is_sparse_and_of_the_size(tmp_path: Path) -> None:
    path = tmp_path / "new.raw"
    create_raw(path, (1 << 30) + 7)
    assert path.stat().st_size == (1 << 30) + 7
    assert path.stat().st_blocks == 0


def test_an_empty_image_can_be_made(tmp_path: Path) -> None:
    create_raw(str(tmp_path / "new.raw"), 0)
    assert (tmp_path / "new.raw").read_bytes() == b""


@pytest.mark.parametrize("preallocation", ["falloc", "full"])
def test_storage_can_be_reserved(tmp_path: Path, preallocation: str) -> None:
    path = tmp_path / "new.raw"
    create_raw(path, 3 * MiB + 7, preallocation=preallocation)
    assert path.read_bytes() == bytes(3 * MiB + 7)
    assert path.stat().st_blocks * 512 >= 3 * MiB + 7
    create_raw(tmp_path / "empty.raw", 0, preallocation=preallocation)


@pytest.mark.parametrize("preallocation", ["metadata", "all"])
def test_an_unknown_preallocation_is_refused(tmp_path: Path, preallocation: str) -> None:
    with pytest.raises(InvalidInput, match="must be one of off, falloc, full") as caught:
        create_raw(tmp_path / "new.raw", 1, preallocation=preallocation)
    assert (caught.value.field, caught.value.value) == ("preallocation", preallocation)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_reserved_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ImageRefused, match="There is no space left in"):
        create_raw(tmp_path / "new.raw", 1 * MiB, preallocation="falloc")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "old.raw"
    path.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in (path, tmp_path / "link"):
        with pytest.raises(ImageRefused) as caught:
            create_raw(name, 100)
        assert caught.value.reason == f"{name} exists already."
    assert path.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("none/new.raw", 1, "The folder {0}/none does not exist."),
        ("file/new.raw", 1, "{0}/file is not a folder."),
        ("new.raw", -1, "The size must not be negative, as -1 is."),
        ("new.raw", 1 << 62, f"This filesystem cannot store a file of {1 << 62} bytes."),
        ("new.raw", 1 << 64, f"This filesystem cannot store a file of {1 << 64} bytes."),
        ("a\0b", 1, "Cannot create {0}/a\0b: embedded null byte."),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, size: int, reason: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageRefused) as caught:
        create_raw(f"{tmp_path}/{name}", size)
    assert caught.value.field == "target"
    assert caught.value.reason == reason.format(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(ImageRefused, match="There is no space left in"):
        create_raw(tmp_path / "new.raw", 1)
