"""Backing chains: by every kind of name, broken ones, and beside programs that use them."""

import fcntl
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block.chain import MAX_CHAIN
from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode, ExtentKind, chain_extents
from mirrorgui.block.open import How, open_image
from mirrorgui.block.walk import layers_of
from mirrorgui.errors import BlockIOError, ImageError, ImageRefused, InvalidInput
from mirrorgui.units import KiB, MiB
from tests.block.conftest import open_descriptors, run, stamped

pytestmark = pytest.mark.interop

READ = How(read_only=True)


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(stamped(1 * MiB))
    return path


def overlay(path: Path, backing: object, *, form: str = "raw", size: str = "1M") -> Path:
    """An overlay, whatever it names."""
    run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", form, "-b", str(backing), path, size)
    return path


def without_format(path: Path) -> None:
    """Let an overlay not say what its backing file is: the extension gets an unknown type."""
    data = path.read_bytes()[:65536]
    place = data.index(bytes.fromhex("e2792aca"))
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"none")


def content(node: BlockNode) -> bytes:
    buffer = bytearray(node.size)
    node.read_into(0, buffer)
    return bytes(buffer)


def opened(spec: object, how: How = READ, **options: object) -> bytes:
    node = open_image(spec, how=how, **options)
    try:
        return content(node)
    finally:
        node.close()


def refusal(spec: object, how: How = READ) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        open_image(spec, how=how)
    return caught.value


# By every kind of name


def test_a_relative_name_starts_from_the_folder_of_the_image_that_names_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    overlay(folder / "mid.qcow2", "../base.raw")
    overlay(tmp_path / "top.qcow2", "folder/mid.qcow2", form="qcow2")
    for place, name in ((tmp_path, "top.qcow2"), (folder, "../top.qcow2")):
        monkeypatch.chdir(place)
        assert opened(name) == base.read_bytes()
    monkeypatch.chdir("/")
    assert opened(tmp_path / "top.qcow2") == base.read_bytes()


def test_a_relative_name_with_a_colon_in_its_folder_is_a_path(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vm:1"
    folder.mkdir()
    overlay(folder / "top.qcow2", "../base.raw")
    monkeypatch.chdir(tmp_path)
    assert opened(Path("vm:1/top.qcow2")) == base.read_bytes()


@pytest.mark.parametrize("prefix", ["", "file:", "file://"])
def test_an_absolute_name_and_one_with_a_protocol(base: Path, tmp_path: Path, prefix: str) -> None:
    assert opened(overlay(tmp_path / "top.qcow2", f"{prefix}{base}")) == base.read_bytes()


def test_a_name_in_json_has_options(base: Path, tmp_path: Path) -> None:
    spec = {"driver": "raw", "offset": 4096, "size": 8192, "file.filename": str(base)}
    top = overlay(tmp_path / "top.qcow2", f"json:{json.dumps(spec)}", size="16K")
    assert opened(top) == base.read_bytes()[4096:12288] + bytes(8192)


def test_a_name_may_be_an_nbd_uri(base: Path, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    command = ["qemu-nbd", "-f", "raw", "-k", str(socket), "-r", "-t", "--fork", "--pid-file"]
    pid_file = tmp_path / "pid"
    run(*command, pid_file, base)
    try:
        top = overlay(tmp_path / "top.qcow2", f"nbd+unix:///?socket={socket}")
        node = open_image(top, how=READ)
        assert (node.backing.driver, content(node)) == ("raw", base.read_bytes())
        node.close()
    finally:
        os.kill(int(pid_file.read_text()), 15)


def test_the_backing_format_is_honoured_and_never_guessed(tmp_path: Path) -> None:
    inner = tmp_path / "inner.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", inner, "1M")
    top = overlay(tmp_path / "top.qcow2", inner, form="raw")
    assert opened(top).startswith(b"QFI\xfb")


def test_without_a_backing_format_it_is_recognised(base: Path, tmp_path: Path) -> None:
    mid = overlay(tmp_path / "mid.qcow2", base)
    top = overlay(tmp_path / "top.qcow2", mid, form="qcow2")
    without_format(top)
    without_format(mid)
    node = open_image(top, how=READ)
    assert [layer.driver for layer in layers_of(node)] == ["qcow2", "qcow2", "raw"]
    assert content(node) == base.read_bytes()
    node.close()


def test_an_unknown_backing_format_is_refused(base: Path, tmp_path: Path) -> None:
    top = overlay(tmp_path / "top.qcow2", base, form="raw")
    data = top.read_bytes()
    place = data.index(b"\xe2\x79\x2a\xca") + 8
    with top.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"rax")
    caught = refusal(top)
    assert isinstance(caught, ImageRefused)
    assert f"Could not open backing file {base}: Unknown format" in caught.reason


# What is below


def test_images_below_are_open_for_reading_only(base: Path, tmp_path: Path) -> None:
    mid = overlay(tmp_path / "mid.qcow2", base)
    node = open_image(overlay(tmp_path / "top.qcow2", mid, form="qcow2"))
    assert [layer.read_only for layer in layers_of(node)] == [False, True, True]
    with pytest.raises(BlockIOError):
        node.backing.write(0, bytes(512))
    node.write(0, b"x" * 512)
    node.close()
    assert base.read_bytes() == stamped(1 * MiB)


def test_a_shorter_backing_file_reads_as_zeroes_beyond_its_end(base: Path, tmp_path: Path) -> None:
    os.truncate(base, 100_000)
    top = overlay(tmp_path / "top.qcow2", base)
    node = open_image(top, how=READ)
    assert content(node) == base.read_bytes() + bytes(1 * MiB - 100_000)
    runs = list(chain_extents(node, 0, node.size))
    assert runs[-1].kind is ExtentKind.ZERO
    assert runs[-1].end == node.size
    node.close()


def test_a_chain_of_every_content_reads_as_qemu_img_reads_it(base: Path, tmp_path: Path) -> None:
    layer, name = base, "raw"
    for level in range(5):
        above = tmp_path / f"{level}.qcow2"
        size = str(1 * MiB + level * 65_536)
        overlay(above, layer, form=name, size=size)
        script = (
            f"write -P {level + 1} {level * 50_000 + 512 * level} 70000",
            f"write -z {level}k 9k",
        )
        run("qemu-io", *(word for each in script for word in ("-c", each)), above)
        layer, name = above, "qcow2"
    flat = tmp_path / "flat.raw"
    run("qemu-img", "convert", "-O", "raw", layer, flat)
    assert opened(layer) == flat.read_bytes()


def test_an_external_data_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top, data = tmp_path / "top.qcow2", tmp_path / "data.raw"
    monkeypatch.chdir(tmp_path)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", top, "1M")
    run("qemu-io", "-c", "write -P 7 0 128k", top)
    expected = b"\7" * (128 * KiB) + bytes(1 * MiB - 128 * KiB)
    assert opened(top) == expected
    monkeypatch.chdir("/")  # where QEMU would not find it
    assert opened(top) == expected
    data.rename(tmp_path / "moved")
    assert "data.raw" in str(refusal(top))
    spec = {"driver": "qcow2", "file": {"filename": str(top)}}
    moved = {"driver": "file", "filename": str(tmp_path / "moved")}
    assert opened({**spec, "data-file": moved}) == expected


def test_a_data_files_name_is_a_path_whatever_it_looks_like(tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/d.raw", top, "1M")
    data = bytearray(top.read_bytes()[:4096])
    name = f"{tmp_path}/d.raw".encode()
    place = data.index(name)
    with top.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"json:{}".ljust(len(name), b"\0"))
    assert "json:{}" in refusal(top).reason
    assert "No such file" in refusal(top).reason


# Options


def test_the_backing_file_can_be_given_by_options(base: Path, tmp_path: Path) -> None:
    top = overlay(tmp_path / "top.qcow2", "gone.raw")
    spec = {"driver": "qcow2", "file": {"driver": "file", "filename": str(top)}}
    given = {"driver": "raw", "file": {"driver": "file", "filename": str(base)}}
    assert opened({**spec, "backing": given}) == base.read_bytes()
    assert opened({**spec, "backing": {"filename": str(base)}}) == base.read_bytes()
    nodes = {"below": MemoryNode(stamped(4096), node_name="below")}
    assert opened({**spec, "backing": "below"}, How(read_only=True, nodes=nodes))[:4096] == stamped(
        4096
    )
    assert nodes["below"].content() == stamped(4096)
    assert refusal({**spec, "backing": "other"}).reason.endswith("node-name='other'")


def test_no_backing_file_can_be_asked_for(base: Path, tmp_path: Path) -> None:
    top = overlay(tmp_path / "top.qcow2", base)
    spec = {"driver": "qcow2", "file": {"filename": str(top)}, "backing": None}
    node = open_image(spec, how=READ)
    assert (node.backing, node.unopened_backing) == (None, str(base))
    assert content(node) == bytes(1 * MiB)
    node.open_backing()
    assert node.backing is None
    node.close()
    lower = {**spec, "backing": None, "read-only": True}
    above = overlay(tmp_path / "above.qcow2", top, form="qcow2")
    node = open_image({"driver": "qcow2", "file.filename": str(above), "backing": lower}, how=READ)
    assert content(node) == bytes(1 * MiB)
    node.close()


@pytest.mark.parametrize(
    "options",
    [
        {"lazy-refcounts": True},
        {"lazy-refcounts": False, "pass-discard-request": False},
        {"pass-discard-snapshot": True, "pass-discard-other": True},
        {"overlap-check": "none"},
        {"overlap-check": {"template": "all", "active-l2": True, "inactive-l2": False}},
        {"cache-size": "1M", "l2-cache-size": 65536},
        {"cache-size": 131072, "refcount-cache-size": "64K"},
        {"l2-cache-size": 524288, "refcount-cache-size": 262144, "l2-cache-entry-size": "64K"},
        {"cache-clean-interval": 0, "discard": "unmap", "detect-zeroes": "unmap"},
    ],
)
def test_qemus_options_are_taken(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    node = open_image({"driver": "qcow2", "file": {"filename": str(path)}, **options})
    node.write(0, stamped(100_000))
    node.close()
    run("qemu-img", "check", path)
    assert opened(path)[:100_000] == stamped(100_000)


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"colour": "red"}, "source.colour", "Parameter 'colour' is unexpected"),
        ({"lazy-refcounts": 1}, "source.lazy-refcounts", "must be true or false"),
        ({"overlap-check": "most"}, "source.overlap-check", "must be one of none, constant"),
        ({"overlap-check": {"x": True}}, "source.overlap-check.x", "unexpected"),
        (
            {"cache-size": 1, "l2-cache-size": 1, "refcount-cache-size": 0},
            "source.cache-size",
            "may not be set at the same time",
        ),
        ({"cache-size": 1, "l2-cache-size": 2}, "source.l2-cache-size", "may not exceed"),
        ({"cache-size": 1, "refcount-cache-size": 2}, "source.refcount-cache-size", "not exceed"),
        ({"l2-cache-entry-size": 1000}, "source.l2-cache-entry-size", "must be a power of two"),
        ({"l2-cache-entry-size": "1M"}, "source.l2-cache-entry-size", "the cluster size (65536)"),
        ({"l2-cache-entry-size": 4096}, "source.l2-cache-entry-size", "kept whole (65536 bytes)"),
        ({"cache-clean-interval": 600}, "source.cache-clean-interval", "not supported"),
        ({"overlap-check": "all"}, "source.overlap-check", "the L2 tables of snapshots"),
        ({"overlap-check": {"template": "all"}}, "source.overlap-check", "not supported"),
        ({"overlap-check": {"inactive-l2": True}}, "source.overlap-check", "not supported"),
        ({"cache-clean-interval": 1 << 32}, "source.cache-clean-interval", "too big"),
        ({"encrypt": {"format": "luks"}}, "source.encrypt", "not opened"),
        ({"data-file": {"filename": "x"}}, "source.data-file", "can only be set for images with"),
        ({"backing": 7}, "source.backing", "must be an object"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(
    tmp_path: Path, options: dict[str, object], field: str, text: str
) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    spec = {"driver": "qcow2", "file": {"filename": str(path)}, **options}
    caught = refusal(spec, How("source"))
    assert caught.field == field
    assert text in caught.reason


def test_lazy_refcounts_need_version_3(tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", path, "1M")
    spec = {"driver": "qcow2", "file": {"filename": str(path)}, "lazy-refcounts": True}
    assert "Lazy refcounts require" in refusal(spec).reason


# Left aside, and opened later


def test_a_target_is_opened_without_its_chain_which_is_opened_later(
    base: Path, tmp_path: Path
) -> None:
    mid = overlay(tmp_path / "mid.qcow2", base)
    top = overlay(tmp_path / "top.qcow2", "mid.qcow2", form="qcow2")
    node = open_image(top, how=How("target", without_backing=True))
    assert (node.backing, node.unopened_backing) == (None, str(mid))
    assert content(node) == bytes(1 * MiB)
    node.open_backing()
    assert (len(list(layers_of(node))), node.unopened_backing) == (3, "")
    assert content(node) == base.read_bytes()
    node.open_backing()
    node.close()


def test_a_chain_that_cannot_be_opened_later_leaves_all_as_it_was(
    base: Path, tmp_path: Path
) -> None:
    mid = overlay(tmp_path / "mid.qcow2", base)
    top = overlay(tmp_path / "top.qcow2", mid, form="qcow2")
    node = open_image(top, how=How("target", without_backing=True))
    base.rename(tmp_path / "moved")
    before = open_descriptors()
    with pytest.raises(ImageRefused, match="Could not open backing file"):
        node.open_backing()
    assert (node.backing, node.unopened_backing) == (None, str(mid))
    assert open_descriptors() == before
    (tmp_path / "moved").rename(base)
    node.open_backing()
    assert content(node) == base.read_bytes()
    node.close()


# Broken chains


def test_a_missing_backing_file_is_named(tmp_path: Path) -> None:
    mid = overlay(tmp_path / "mid.qcow2", "gone.raw")
    top = overlay(tmp_path / "top.qcow2", mid, form="qcow2")
    caught = refusal(top, How("source"))
    assert (caught.field, caught.value) == ("source", str(mid))
    assert caught.reason == (
        f"Could not open backing file {tmp_path}/gone.raw: "
        f"Cannot read {tmp_path}/gone.raw: No such file or directory."
    )


def test_a_damaged_backing_file_is_named(tmp_path: Path) -> None:
    mid = overlay(tmp_path / "mid.qcow2", "gone.raw")
    with mid.open("r+b") as stream:
        stream.seek(20)
        stream.write(b"\0\0\0\x40")
    caught = refusal(overlay(tmp_path / "top.qcow2", mid, form="qcow2"))
    assert isinstance(caught, ImageError)
    assert (caught.value, caught.offset) == (str(mid), 20)


@pytest.mark.parametrize("how", [How(), READ, How(read_only=True, force_share=True)])
@pytest.mark.parametrize("kind", ["itself", "two", "hard link", "symlink"])
def test_a_loop_is_refused(tmp_path: Path, kind: str, how: How) -> None:
    a, b = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    made = tmp_path / "made"  # qemu-img makes no image over itself
    overlay(made, a if kind == "itself" else "b.qcow2", form="qcow2").rename(a)
    if kind == "two":
        overlay(b, a, form="qcow2")
    elif kind == "hard link":
        b.hardlink_to(a)
    elif kind == "symlink":
        b.symlink_to(a)
    caught = refusal(a, how)
    assert isinstance(caught, ImageError)
    assert "the chain is a loop" in caught.reason


def chain_of(folder: Path, base: Path, levels: int) -> Path:
    """A chain of so many overlays on a base; copies of one header, to be quick."""
    first = overlay(folder / "000.qcow2", base)
    pattern = overlay(folder / "pattern.qcow2", f"{folder}/000.qcow2", form="qcow2").read_bytes()
    name = f"{folder}/000.qcow2".encode()
    for level in range(1, levels):
        below = f"{folder}/{level - 1:03}.qcow2".encode()
        first = folder / f"{level:03}.qcow2"
        first.write_bytes(pattern.replace(name, below))
    return first


def test_the_longest_chain_is_read_and_a_longer_one_refused(base: Path, tmp_path: Path) -> None:
    top = chain_of(tmp_path, base, MAX_CHAIN)
    node = open_image(top)
    assert len(list(layers_of(node))) == MAX_CHAIN + 1
    assert content(node) == base.read_bytes()
    assert [run_.kind for run_ in chain_extents(node, 0, 65536)] == [ExtentKind.DATA]
    node.write(70_000, b"x" * 1000)
    node.close()
    caught = refusal(chain_of(tmp_path, base, 200), How("source"))
    assert isinstance(caught, ImageError)
    assert caught.reason.startswith("at offset 8: the backing chain goes on below this image")


def test_names_that_nest_options_in_images_of_options_end(base: Path, tmp_path: Path) -> None:
    """Each image names the next one in options of a backing file of options."""
    below = {"driver": "raw", "file": {"driver": "file", "filename": str(base)}}
    for level in range(40):
        path = overlay(tmp_path / f"{level:02}.qcow2", f"json:{json.dumps(below)}", form="raw")
        without_format(path)
        own = {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}}
        below = {"driver": "raw", "file": {**own, "read-only": True}}
    caught = refusal(below)
    assert "nested more than" in caught.reason or "Could not open backing file" in caught.reason


def test_a_relative_name_of_an_image_without_a_folder_is_refused(tmp_path: Path) -> None:
    top = overlay(tmp_path / "top.qcow2", "base.raw")
    below = MemoryNode(top.read_bytes(), node_name="file", name="memory")
    how = How(read_only=True, nodes={"file": below})
    caught = refusal({"driver": "qcow2", "file": "file"}, how)
    assert "'base.raw' is named relative to a folder, and the image has none" in caught.reason


# Beside programs that use the same images


@contextmanager
def qemu_io(*options: str | Path) -> Iterator[None]:
    """A qemu-io that has an image open."""
    words = [os.fspath(option) for option in options]
    with subprocess.Popen(
        ["qemu-io", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write("read 0 512\n")
        program.stdin.flush()
        while "512/512" not in program.stdout.readline():
            assert program.poll() is None
        yield
        program.stdin.close()
        program.wait()


def held_bytes(path: Path) -> list[int]:
    """Which of QEMU's lock bytes somebody holds."""
    lock = struct.Struct("@hhqqi4x")
    places = [*range(100, 104), *range(200, 204)]
    with path.open("rb") as stream:
        ask = [lock.pack(fcntl.F_WRLCK, 0, place, 1, 0) for place in places]
        answers = [fcntl.fcntl(stream, fcntl.F_OFD_GETLK, one) for one in ask]
    return [
        place
        for place, answer in zip(places, answers, strict=True)
        if lock.unpack(answer)[0] != fcntl.F_UNLCK
    ]


@pytest.fixture
def chain(base: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """Top, middle and base."""
    mid = overlay(tmp_path / "mid.qcow2", base)
    return overlay(tmp_path / "top.qcow2", mid, form="qcow2"), mid, base


def test_our_locks_on_a_chain_are_those_of_qemu(chain: tuple[Path, Path, Path]) -> None:
    top, mid, _ = chain
    with qemu_io(top):
        theirs = [held_bytes(path) for path in (top, mid)]
    node = open_image(top)
    ours = [held_bytes(path) for path in (top, mid)]
    node.close()
    assert ours == theirs == [[100, 101, 103, 201, 203], [100, 201, 203]]


def test_what_qemu_writes_is_refused_here(chain: tuple[Path, Path, Path]) -> None:
    top, mid, base = chain
    with qemu_io(top):
        assert "Open for writing by qemu-io" in refusal(top).reason
        assert "is open in qemu-io" in refusal(mid, How("target")).reason
        open_image(overlay(top.parent / "other.qcow2", mid, form="qcow2")).close()
    with qemu_io(mid):
        assert f"Could not open backing file {mid}: Open for writing by" in refusal(top).reason
    with qemu_io("-f", "raw", base):
        assert f"Could not open backing file {base}: Open for" in refusal(top).reason


def test_a_storage_daemon_keeps_a_chain_to_itself(chain: tuple[Path, Path, Path]) -> None:
    top, mid, _ = chain
    spec = {"driver": "qcow2", "node-name": "top", "file": {"driver": "file", "filename": str(top)}}
    command = ["qemu-storage-daemon", "--chardev", "stdio,id=m", "--monitor", "chardev=m"]
    with subprocess.Popen(
        # In this order: a monitor that comes first may greet before the images are open.
        [*command[:1], "--blockdev", json.dumps(spec), *command[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        assert "QMP" in daemon.stdout.readline()  # its images are open
        assert "Open for writing by qemu-storage-daemon" in refusal(top).reason
        assert "is open in qemu-storage-daemon" in refusal(mid, How("target")).reason
        daemon.stdin.close()
        daemon.terminate()
        daemon.wait()
    for image, read_only in ((top, False), (mid, False), (top, True)):
        node = open_image(image)
        answer = run(
            *command[:1],
            "--blockdev",
            json.dumps({**spec, "read-only": read_only}),
            "--blockdev",
            "driver=null-co,node-name=none",
            "--export",
            "type=bogus,id=e,node-name=none",  # ends it, if the images did not
            check=False,
        )
        node.close()
        assert "Failed to get" in answer.stderr, (image, read_only)


def test_what_we_write_is_refused_by_qemu(chain: tuple[Path, Path, Path]) -> None:
    top, mid, _ = chain
    node = open_image(top)
    for path, options in ((top, ()), (top, ("-r",)), (mid, ())):
        answer = run("qemu-io", *options, "-c", "read 0 512", path, check=False)
        assert "Failed to get" in answer.stderr, (path, options)
    run("qemu-io", "-r", "-c", "read 0 512", mid)
    node.close()
    node = open_image(mid)
    assert "Failed to get" in run("qemu-io", "-c", "read 0 512", top, check=False).stderr
    node.close()


def test_a_data_file_is_locked_as_well(tmp_path: Path) -> None:
    top, data = tmp_path / "top.qcow2", tmp_path / "data.raw"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data}", top, "1M")
    node = open_image(top)
    answer = run("qemu-io", "-f", "raw", "-c", "write 0 512", data, check=False)
    assert "Failed to get" in answer.stderr
    node.close()
    holder = FileNode(data)
    assert "is open in MirrorGUI itself" in refusal(top, How("target")).reason
    holder.close()


def test_what_an_image_names_is_never_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "dirty.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "1M")
    with path.open("r+b") as stream:
        stream.seek(79)
        stream.write(b"\x01")  # dirty: it would be repaired if it were opened for writing
    before = path.read_bytes()
    file = {"driver": "file", "filename": str(path), "read-only": False}
    below = {"driver": "qcow2", "read-only": False, "file": file}
    name = "json:" + json.dumps({"driver": "raw", "read-only": False, "file": below})
    top = overlay(tmp_path / "top.qcow2", name)
    node = open_image(str(top))
    try:
        assert not any(content(node))
        node.write(0, b"top")
    finally:
        node.close()
    assert path.read_bytes() == before
