"""Formats that QEMU opens for us: real images of each, and what becomes of the process."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrorgui.block import qemu_process
from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.nbd import NbdNode
from mirrorgui.block.node import ExtentKind
from mirrorgui.block.options import Options
from mirrorgui.block.qemu_nbd import Asked, ForeignNode, open_foreign
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput, RequestCancelled
from mirrorgui.runtime import runtime_folder
from mirrorgui.units import KiB, MiB
from tests.block.conftest import luks_image, open_descriptors, run, stamped

SIZE = 8 * MiB
PATIENCE_S = 20.0
WRITABLE = ("vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels")


@contextmanager
def opened(driver: str, tree: dict[str, object], **asked: object) -> Iterator[ForeignNode]:
    node = open_foreign(driver, Options(tree, "source"), Asked("source", **asked))
    assert isinstance(node, ForeignNode)
    try:
        yield node
    finally:
        node.close()


def image(path: Path) -> dict[str, object]:
    return {"file": {"driver": "file", "filename": str(path)}}


def make(folder: Path, driver: str, size: int = SIZE, *options: str) -> Path:
    path = folder / f"disk.{driver}"
    more = ["-o", "force_size=on"] if driver == "vpc" else []
    run("qemu-img", "create", "-q", "-f", driver, *more, *options, path, str(size))
    return path


def read(node: NbdNode, offset: int, length: int) -> bytes:
    data = bytearray(length)
    node.read_into(offset, data)
    return bytes(data)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def folders() -> set[str]:
    return {each.name for each in runtime_folder().parent.glob("mirrorgui-nbd-*")}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    descriptors, places = open_descriptors(), folders()
    yield
    assert open_descriptors() == descriptors
    assert not folders() - places  # those of processes that were killed may go meanwhile


@pytest.mark.parametrize("driver", WRITABLE)
def test_what_is_written_is_what_qemu_reads(tmp_path: Path, driver: str) -> None:
    path = make(tmp_path, driver)
    with opened(driver, image(path)) as node:
        assert (node.driver, node.size, node.name, node.path) == (
            driver,
            SIZE,
            str(path),
            str(path),
        )
        assert not node.read_only
        node.write(1 * MiB + 700, stamped(100 * KiB))
        node.write_zeroes(1 * MiB + 1 * KiB, 4 * KiB)
        node.flush()
        assert read(node, 1 * MiB + 700, 324) == stamped(324)
    raw = tmp_path / "raw"
    run("qemu-img", "convert", "-f", driver, "-O", "raw", path, raw)
    expected = bytearray(SIZE)
    expected[1 * MiB + 700 : 1 * MiB + 700 + 100 * KiB] = stamped(100 * KiB)
    expected[1 * MiB + 1 * KiB : 1 * MiB + 5 * KiB] = bytes(4 * KiB)
    assert raw.read_bytes() == expected


@pytest.mark.parametrize("driver", WRITABLE)
def test_what_qemu_writes_is_what_is_read_and_holes_are_known(tmp_path: Path, driver: str) -> None:
    content = bytearray(SIZE)
    content[2 * MiB : 2 * MiB + 256 * KiB] = stamped(256 * KiB)
    raw = tmp_path / "raw"
    raw.write_bytes(content)
    path = tmp_path / "disk"
    more = ["-o", "force_size=on"] if driver == "vpc" else []
    run("qemu-img", "convert", "-f", "raw", "-O", driver, *more, raw, path)
    with opened(driver, image(path), read_only=True) as node:
        assert node.read_only
        assert read(node, 0, SIZE) == content
        kinds = {run.kind for run in node.extents(4 * MiB, 2 * MiB)}
        assert kinds == {ExtentKind.DATA if driver == "vhdx" else ExtentKind.ZERO}
        assert node.extents(2 * MiB, 4 * KiB)[0].kind is ExtentKind.DATA
        with pytest.raises(BlockIOError) as caught:
            node.write(0, b"x")
        assert caught.value.errno == errno.EPERM


def test_an_encrypted_image_is_opened_with_the_file_of_its_passphrase(tmp_path: Path) -> None:
    key = tmp_path / "a key, with a comma"
    key.write_text("secret")
    path = tmp_path / "disk.luks"
    luks_image(path, SIZE)
    with opened("luks", {**image(path), "key-file": str(key)}) as node:
        node.write(4096, stamped(64 * KiB))
        node.flush()
        assert read(node, 4096, 64 * KiB) == stamped(64 * KiB)
    assert stamped(512) not in path.read_bytes()
    with pytest.raises(ImageRefused) as caught, opened("luks", image(path)):
        pass
    assert caught.value.field == "source"
    assert "key-file must name a file that holds the passphrase" in caught.value.reason
    key.write_text("wrong")
    with (
        pytest.raises(ImageRefused, match="Invalid password"),
        opened("luks", {**image(path), "key-file": str(key)}),
    ):
        pass


def test_a_passphrase_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match=r"source\.key-file.*VDI images have no passphrase"),
        opened("vdi", {**image(tmp_path / "x"), "key-file": "k"}),
    ):
        pass


def test_a_split_vmdk_with_a_backing_file_is_one_image(tmp_path: Path) -> None:
    base, top = tmp_path / "base.vmdk", tmp_path / "top.vmdk"
    run(
        *("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"),
        *(base, str(SIZE)),
    )
    run("qemu-io", "-f", "vmdk", "-c", "write -P 7 1M 1M", base)
    run("qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", base, top)
    run("qemu-io", "-f", "vmdk", "-c", "write -P 8 1536k 64k", top)
    with opened("vmdk", image(top), read_only=True) as node:
        assert read(node, 1 * MiB, 512) == b"\7" * 512
        assert read(node, 1536 * KiB, 512) == b"\10" * 512
        assert node.backing is None


# Refusals


def test_qemus_reason_is_given(tmp_path: Path) -> None:
    path = tmp_path / "no vdi, 'quoted'"
    path.write_bytes(bytes(64 * KiB))
    with pytest.raises(ImageRefused) as caught, opened("vdi", image(path)):
        pass
    assert caught.value.value == str(path)
    assert caught.value.reason.startswith("Image not in VDI format (bad signature")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.vmdk"
    with pytest.raises(ImageRefused) as caught, opened("vmdk", image(path)):
        pass
    assert caught.value.reason == f"Could not open '{path}': No such file or directory"


def test_an_unknown_option_is_refused_by_name(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with (
        pytest.raises(ImageRefused, match="'vdi' does not support the option 'zork'"),
        opened("vdi", {**image(path), "zork": 1}),
    ):
        pass


def test_an_image_in_use_is_refused_and_ours_are_refused_to_others(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)):
        refused = run("qemu-io", "-f", "vdi", "-c", "read 0 512", path, check=False)
        assert 'Failed to get "write" lock' in refused.stderr
        with (
            pytest.raises(ImageRefused, match=r"(?s)lock.*another process"),
            opened("vdi", image(path)),
        ):
            pass
        with opened("vdi", image(path), read_only=True, force_share=True) as node:
            assert read(node, 0, 512) == bytes(512)
        with opened("vdi", image(path), locking="off") as node:
            assert read(node, 0, 512) == bytes(512)


def test_an_open_file_below_is_closed_so_that_qemu_can_open_it(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    child = FileNode(path, locking="on")
    with opened("vdi", {"file": child}) as node:
        assert node.path == str(path)
        assert child.fileno() == -1


def test_what_exists_only_here_cannot_be_below() -> None:
    with (
        pytest.raises(InvalidInput, match="exists only in this program"),
        opened("vdi", {"file": MemoryNode(MiB, name="ram")}),
    ):
        pass
    with pytest.raises(InvalidInput, match=r"source\.file"), opened("vdi", {"file": "node0"}):
        pass


def test_the_package_of_a_missing_program_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageRefused) as caught, opened("vmdk", image(tmp_path / "x.vmdk")):
        pass
    assert caught.value.reason == (
        "VMDK images are opened through qemu-nbd, which is not installed. "
        "The package qemu-utils brings it."
    )


def test_the_package_of_a_missing_protocol_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "qemu-nbd"
    program.write_text("#!/bin/sh\necho \"qemu-nbd: Unknown protocol 'rbd'\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ImageRefused) as caught, opened("rbd", {"uri": "rbd:pool/image"}):
        pass
    assert caught.value.value == "rbd:pool/image"
    assert caught.value.reason.startswith("Unknown protocol 'rbd'. The package qemu-block-extra")


# Protocols


@contextmanager
def web_server(folder: Path) -> Iterator[int]:
    from tests.block.webserver import serving_ranges

    with serving_ranges(folder) as port:
        yield port


def test_an_image_of_a_web_server_is_read(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(stamped(MiB))
    with web_server(tmp_path) as port:
        uri = f"http://127.0.0.1:{port}/disk.img"
        with opened("http", {"uri": uri}, read_only=True) as node:
            assert (node.driver, node.name, node.path, node.size) == ("http", uri, "", MiB)
            assert read(node, 4096, 4096) == stamped(MiB)[4096:8192]
        with opened("http", {"url": uri}, read_only=True) as node:
            assert read(node, 0, 512) == stamped(512)


def test_a_format_on_a_web_server_is_read(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi", MiB)
    run("qemu-io", "-f", "vdi", "-c", "write -P 9 0 64k", path)
    with web_server(tmp_path) as port:
        uri = f"http://127.0.0.1:{port}/{path.name}"
        with opened("vdi", {"file": {"driver": "http", "uri": uri}}, read_only=True) as node:
            assert (node.driver, node.name) == ("vdi", uri)
            assert read(node, 0, 4) == b"\t\t\t\t"
        # As after a look at the bytes, to recognise the format.
        child = open_foreign("http", Options({"uri": uri}, ""), Asked(read_only=True))
        with opened("vdi", {"file": child}, read_only=True) as node:
            assert read(node, 0, 4) == b"\t\t\t\t"


def test_a_format_on_an_nbd_server_is_read(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi", MiB)
    run("qemu-io", "-f", "vdi", "-c", "write -P 9 0 64k", path)
    with opened("raw", image(path)) as served:
        uri = served.uri
        with opened("vdi", {"file": {"driver": "nbd", "uri": uri}}, read_only=True) as node:
            assert read(node, 0, 4) == b"\t\t\t\t"


def test_a_uri_with_further_options_is_refused() -> None:
    with (
        pytest.raises(InvalidInput, match="further options"),
        opened("ssh", {"uri": "ssh://host/x", "host-key-check": {"mode": "none"}}),
    ):
        pass


# The process


def test_the_process_ends_when_the_image_is_closed(tmp_path: Path) -> None:
    path = make(tmp_path, "qed")
    with opened("qed", image(path)) as node:
        pid = node.pid
        assert is_alive(pid)
        node.close()
        assert not is_alive(pid)


def test_its_crash_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        read(node, 0, 512)
        os.kill(node.pid, signal.SIGKILL)
        for request in (
            lambda: read(node, 0, 512),
            lambda: node.write(0, b"x" * 512),
            lambda: node.extents(0, MiB),
            node.flush,
        ):
            with pytest.raises(BlockIOError) as caught:
                request()
            assert caught.value.errno == errno.EIO
            assert caught.value.node == str(path)
            assert caught.value.detail == "qemu-nbd was ended by SIGKILL"


def test_its_crash_ends_requests_that_are_under_way(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        os.kill(node.pid, signal.SIGSTOP)
        caught: list[BlockIOError] = []

        def work() -> None:
            try:
                read(node, 0, 4096)
            except BlockIOError as error:
                caught.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: node._links._users and max(node._links._users.values()))
        os.kill(node.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert [error.errno for error in caught] == [errno.EIO] * 3


def test_a_hung_process_is_given_up_on_demand_and_killed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_process, "_END_S", 0.05)
    monkeypatch.setattr(qemu_process, "_KILL_S", 0.05)
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        os.kill(node.pid, signal.SIGSTOP)
        caught: list[BlockIOError] = []

        def work() -> None:
            try:
                read(node, 0, 4096)
            except BlockIOError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: any(node._links._users.values()))
        node.cancel_in_flight()
        thread.join(PATIENCE_S)
        assert isinstance(caught[0], RequestCancelled)
        pid = node.pid
        node.close()
        assert not is_alive(pid)


def test_it_survives_that_all_requests_are_given_up(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        for connection in list(node._links._users):
            connection.abort()
        assert read(node, 0, 512) == bytes(512)
        assert is_alive(node.pid)


def test_it_does_not_survive_us(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    (tmp_path / "other").mkdir()
    program = (
        "import sys, time\n"
        "from mirrorgui.block.options import Options\n"
        "from mirrorgui.block.qemu_nbd import Asked, open_foreign\n"
        f"tree = {image(path)!r}\n"
        "node = open_foreign('vdi', Options(tree, ''), Asked())\n"
        "node.write(0, b'written' * 1000)\n"
        "print(node.pid, node._process._folder, flush=True)\n"
        "time.sleep(60)\n"
    )
    ours = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert ours.stdout is not None
    pid, _, folder = ours.stdout.readline().strip().partition(" ")
    try:
        assert is_alive(int(pid))
        ours.kill()
        ours.wait()
        wait_until(lambda: not is_alive(int(pid)))
        run("qemu-img", "check", "-q", "-f", "vdi", path)
        run("qemu-io", "-f", "vdi", "-c", "read -P 119 0 1", path)
        with opened("vdi", image(path)) as first:
            assert Path(folder).exists()  # it might be one that is just being made
            for each in (folder, first._process._folder):
                os.utime(each, (0, 0))
            with opened("vdi", image(make(tmp_path / "other", "vdi"))):
                assert not Path(folder).exists()
                assert Path(first._process._folder).exists()
    finally:
        ours.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_ctrl_c_in_our_terminal_is_not_for_it(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        assert os.getpgid(node.pid) != os.getpgid(0)


def test_others_cannot_reach_the_socket(tmp_path: Path) -> None:
    path = make(tmp_path, "vdi")
    with opened("vdi", image(path)) as node:
        folder = Path(node.address.socket_path).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_uid == os.getuid()
