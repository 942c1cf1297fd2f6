import errno
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.qcow2.create import create_qcow2
from mirrorgui.block.qcow2.create_options import CreateOptions
from mirrorgui.block.qcow2.header import read_header
from mirrorgui.errors import ImageRefused, InvalidInput
from mirrorgui.units import GiB, KiB, MiB, PiB
from tests.block.qcow2.nodes import ByteFile

QEMU_NAMES = {"backing_format": "backing_fmt", "version": "compat"}


def qemu_img(*arguments: object, ok: bool = True) -> str:
    done = subprocess.run(
        ["qemu-img", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def qemu_options(options: dict[str, Any]) -> list[str]:
    arguments = []
    for name, value in options.items():
        if name == "version":
            value = f"v{value}"
        elif isinstance(value, bool):
            value = "on" if value else "off"
        arguments += ["-o", f"{QEMU_NAMES.get(name, name)}={value}"]
    return arguments


def both(
    folder: Path, size: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Create the same image here and by qemu-img, in folders of their own."""
    paths = []
    for name in ("ours", "theirs"):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        Path("base").write_bytes(bytes(range(256)) * 4096)
        if name == "ours":
            create_qcow2("new.qcow2", size, CreateOptions(**options))
        else:
            qemu_img("create", "-q", "-f", "qcow2", *qemu_options(options), "new.qcow2", size)
        paths.append(folder / name / "new.qcow2")
    return paths[0], paths[1]


def look(path: Path, *command: str, drop: Sequence[str] = ()) -> Any:
    done = subprocess.run(
        ["qemu-img", *command, "--output=json", path.name],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    for name in drop:
        found.pop(name, None)
    return found


BACKED = {"backing_file": "base", "backing_format": "raw"}
DATA = {"data_file": "guest.data"}

MATRIX: list[dict[str, Any]] = [
    {},
    {"version": 2},
    {"version": 2, **BACKED},
    BACKED,
    *({"cluster_size": 1 << bits} for bits in (9, 12, 14, 21)),
    {"cluster_size": 512, **BACKED},
    *({"refcount_bits": 1 << order} for order in range(7)),
    {"refcount_bits": 1, "cluster_size": 512, "preallocation": "metadata"},
    {"refcount_bits": 64, "cluster_size": 512, "preallocation": "metadata"},
    {"lazy_refcounts": True},
    {"extended_l2": True},
    {"extended_l2": True, "cluster_size": 16 * KiB, **BACKED},
    {"extended_l2": True, **BACKED, "preallocation": "metadata"},
    {"extended_l2": True, "preallocation": "full"},
    {"compression_type": "zstd"},
    {"compression_type": "zlib", "version": 2},
    DATA,
    {**DATA, **BACKED},
    {**DATA, "data_file_raw": True},
    {**DATA, "preallocation": "metadata"},
    {"preallocation": "metadata"},
    {"preallocation": "metadata", "version": 2},
    {"preallocation": "falloc"},
    {"preallocation": "full"},
    {"preallocation": "full", "cluster_size": 4096},
]


@pytest.mark.parametrize("size", [0, 1, 3000 * KiB + 512])
@pytest.mark.parametrize("options", MATRIX, ids=str)
def test_an_image_is_what_qemu_img_makes(
    tmp_path: Path, options: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = both(tmp_path, size, options, monkeypatch)
    drop = ("actual-size", "filename", "children", "full-backing-filename")
    assert look(ours, "info", drop=drop) == look(theirs, "info", drop=drop)
    check = look(ours, "check")
    assert (check["check-errors"], check.get("leaks", 0), check.get("corruptions", 0)) == (0, 0, 0)
    assert check.get("allocated-clusters", 0) == look(theirs, "check").get("allocated-clusters", 0)
    assert states(ours, options) == states(theirs, options)
    qemu_img("compare", ours, theirs)


def states(path: Path, options: dict[str, Any]) -> list[tuple[int, bool, bool, bool]]:
    """What qemu-img says of each sector that begins a run: present, data, zero."""
    found: list[tuple[int, bool, bool, bool]] = []
    # Where data has a place and no storage, zero says what the file system has made of it.
    sparse = CreateOptions(**options).all_tables and options.get("preallocation") in (
        None,
        "metadata",
    )
    for run in look(path, "map"):
        state = run["present"], run["data"], run["zero"] and not sparse
        if not found or found[-1][1:] != state:
            found.append((run["start"], *state))
    return found


@pytest.mark.parametrize("extended_l2", [False, True])
def test_qemu_writes_into_what_was_preallocated(tmp_path: Path, extended_l2: bool) -> None:
    path = tmp_path / "new.qcow2"
    create_qcow2(path, 200 * MiB, CreateOptions(preallocation="metadata", extended_l2=extended_l2))
    end = path.stat().st_size
    subprocess.run(
        ["qemu-io", "-c", "write -P 7 1M 3M", "-c", "write -P 8 199M 1M", str(path)],
        check=True,
        capture_output=True,
    )
    assert path.stat().st_size == end
    assert "No errors" in qemu_img("check", path)


@pytest.mark.parametrize(
    ("preallocation", "least"), [("off", 0), ("metadata", 0), ("falloc", 8), ("full", 8)]
)
def test_storage_is_reserved_for_the_data_only_where_that_is_asked(
    tmp_path: Path, preallocation: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create_qcow2("plain", 8 * MiB, CreateOptions(preallocation=preallocation))
    create_qcow2("split", 8 * MiB, CreateOptions(preallocation=preallocation, data_file="data"))
    for name in ("plain", "data"):
        used = Path(name).stat().st_blocks * 512
        assert least * MiB <= used <= least * MiB + 512 * KiB


def test_a_huge_image_is_made_at_once_and_small(tmp_path: Path) -> None:
    path = tmp_path / "new.qcow2"
    create_qcow2(path, 16 * 1024 * GiB)
    assert path.stat().st_blocks * 512 < 1 * MiB
    assert "No errors" in qemu_img("check", path)
    create_qcow2(tmp_path / "tables", 256 * GiB, CreateOptions(preallocation="metadata"))
    assert (tmp_path / "tables").stat().st_blocks * 512 < 50 * MiB
    assert "No errors" in qemu_img("check", tmp_path / "tables")


@pytest.mark.parametrize(
    ("options", "size", "field", "reason"),
    [
        ({"cluster_size": 256}, 1, "cluster_size", "a power of two between 512 and 2097152"),
        ({"cluster_size": 3000}, 1, "cluster_size", "a power of two between 512 and 2097152"),
        ({"cluster_size": 4 * MiB}, 1, "cluster_size", "a power of two between"),
        ({"cluster_size": 0}, 1, "cluster_size", "a power of two between"),
        ({"version": 4}, 1, "version", "must be 2 or 3"),
        ({"version": 2, "lazy_refcounts": True}, 1, "lazy_refcounts", "needs version 3"),
        ({"version": 2, "extended_l2": True}, 1, "extended_l2", "needs version 3"),
        ({"version": 2, "data_file": "x"}, 1, "data_file", "needs version 3"),
        ({"version": 2, "compression_type": "zstd"}, 1, "compression_type", "needs version 3"),
        ({"version": 2, "refcount_bits": 8}, 1, "refcount_bits", "need version 3"),
        ({"refcount_bits": 3}, 1, "refcount_bits", "a power of two, and at most 64"),
        ({"refcount_bits": 128}, 1, "refcount_bits", "a power of two, and at most 64"),
        ({"refcount_bits": 0}, 1, "refcount_bits", "a power of two, and at most 64"),
        ({"preallocation": "some"}, 1, "preallocation", "one of off, metadata, falloc, full"),
        ({"compression_type": "lzma"}, 1, "compression_type", "one of zlib, zstd"),
        ({**BACKED, "preallocation": "metadata"}, 1, "preallocation", "only if extended_l2 is on"),
        ({"backing_file": "base"}, 1, "backing_file", "format of the backing file"),
        ({"backing_format": "raw"}, 1, "backing_format", "without a backing file"),
        ({"data_file_raw": True}, 1, "data_file_raw", "needs a data file"),
        ({**BACKED, **DATA, "data_file_raw": True}, 1, "data_file_raw", "with a backing file"),
        ({"extended_l2": True, "cluster_size": 8192}, 1, "extended_l2", "clusters of 16384"),
        ({"cluster_size": 512}, 129 * GiB, "size", "too large for clusters of 512 bytes"),
        ({}, 1000 * PiB, "size", "too large for clusters of 65536 bytes"),
        ({"cluster_size": 2 * MiB}, 7 * 1024 * PiB, "size", "too large"),
        ({"cluster_size": 512, "backing_file": "b" * 400, "backing_format": "raw"}, 1,
         "backing_file", "does not fit into 512 bytes"),
        ({"backing_file": "b" * 1024, "backing_format": "raw"}, 1, "backing_file", "at most 1023"),
    ],
    ids=str,
)  # fmt: skip
def test_what_qemu_img_refuses_is_refused_by_name(
    tmp_path: Path,
    options: dict[str, Any],
    size: int,
    field: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = qemu_options(options)
    qemu_img("create", "-u", "-f", "qcow2", *arguments, "theirs.qcow2", size, ok=False)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(InvalidInput) as caught:
        create_qcow2("ours.qcow2", size, CreateOptions(**options))
    assert caught.value.field == field
    assert caught.value.value == options.get(field, size)
    assert reason in caught.value.reason
    assert not list(tmp_path.iterdir())


def test_the_largest_sizes_are_qemu_s(tmp_path: Path) -> None:
    for cluster_size, size in ((512, 128 * GiB), (65536, 2 * PiB), (2 * MiB, 2048 * PiB)):
        assert CreateOptions(cluster_size=cluster_size).header(size).size == size
    path = tmp_path / "new.qcow2"
    create_qcow2(path, 2048 * PiB, CreateOptions(cluster_size=2 * MiB))
    assert look(path, "info")["virtual-size"] == 2048 * PiB


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must not be negative"):
        create_qcow2(tmp_path / "new.qcow2", -1)


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    path, data = tmp_path / "old.qcow2", tmp_path / "data"
    path.write_bytes(b"precious")
    with pytest.raises(ImageRefused, match="exists already"):
        create_qcow2(path, 1 * MiB, CreateOptions(data_file=str(data)))
    assert path.read_bytes() == b"precious"
    assert not data.exists()
    data.write_bytes(b"guests")
    with pytest.raises(ImageRefused, match="exists already") as caught:
        create_qcow2(tmp_path / "new.qcow2", 1 * MiB, CreateOptions(data_file=str(data)))
    assert caught.value.field == "data_file"
    assert data.read_bytes() == b"guests"
    assert not (tmp_path / "new.qcow2").exists()


@pytest.mark.parametrize("preallocation", ["off", "falloc", "full"])
def test_an_open_data_file_keeps_its_content(tmp_path: Path, preallocation: str) -> None:
    path, data = tmp_path / "new.qcow2", tmp_path / "data"
    data.write_bytes(b"guest" * 1000)
    node = FileNode(data, resizes=True)
    options = CreateOptions(data_file=str(data), data_file_raw=True, preallocation=preallocation)
    create_qcow2(path, 1 * MiB, options, data_node=node)
    node.close()
    assert data.read_bytes() == (b"guest" * 1000).ljust(1 * MiB, b"\0")
    raw = f"driver=raw,file.filename={data}"
    qemu_img("compare", "--image-opts", f"driver=qcow2,file.filename={path}", raw)


def test_an_open_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xff" * MiB)
    node = FileNode(path, resizes=True)
    create_qcow2(node, 10 * MiB, CreateOptions(preallocation="falloc"))
    node.close()
    assert "No errors" in qemu_img("check", path)
    create_qcow2(tmp_path / "empty", 10 * MiB)
    qemu_img("compare", path, tmp_path / "empty")


def test_old_bytes_of_a_device_do_not_show(tmp_path: Path) -> None:
    device = ByteFile(b"\xff" * (12 * MiB), fixed=True)
    create_qcow2(device, 10 * MiB, CreateOptions(preallocation="metadata"))
    names = [entry[0] for entry in device.log]
    assert names.index("flush") < names.index("write", names.index("flush"))
    assert device.log[-3:] == [("flush", 0, 0), ("write", 0, 65536), ("flush", 0, 0)]
    (tmp_path / "image").write_bytes(device.content)
    assert "No errors" in qemu_img("check", tmp_path / "image")
    create_qcow2(tmp_path / "empty", 10 * MiB)
    qemu_img("compare", tmp_path / "image", tmp_path / "empty")


def test_a_device_that_is_too_small_is_named() -> None:
    device = ByteFile(b"\xff" * (9 * MiB), fixed=True)
    with pytest.raises(ImageRefused, match=r"in bytes: a new image takes \d+ bytes"):
        create_qcow2(device, 10 * MiB, CreateOptions(preallocation="metadata"))
    assert device.content == b"\xff" * (9 * MiB)
    create_qcow2(device, 10 * MiB)
    assert read_header(device, "filename").size == 10 * MiB


def test_a_full_file_system_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("mirrorgui.block.qcow2.create.preallocate_file", full)
    options = CreateOptions(preallocation="full", data_file=str(tmp_path / "data"))
    for wanted in (options, CreateOptions(preallocation="falloc")):
        with pytest.raises(ImageRefused, match="There is no space left in"):
            create_qcow2(tmp_path / "new.qcow2", 1 * MiB, wanted)
        assert not list(tmp_path.iterdir())
