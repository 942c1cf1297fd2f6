"""Real clients on our server: what they report, what they copy, what they verify."""

import json
import re
import signal
import socket
import subprocess

import pytest

from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.nbd.export import Export
from mirrorgui.nbd.uri import NbdAddress
from mirrorgui.units import KiB, MiB
from tests.nbd.support import PATIENCE_S, WaitingNode, pattern, run, serving, wait_until

pytestmark = pytest.mark.interop


class Bitmap:
    """Every second chunk of 64 KiB in the first MiB is dirty."""

    granularity = 64 * KiB

    def dirty_extents(self, offset, length):
        end = offset + length
        while offset < end:
            step = min(self.granularity - offset % self.granularity, end - offset)
            yield step, offset < 1 * MiB and bool(offset // self.granularity % 2)
            offset += step


@pytest.fixture
def image():
    return MemoryNode(16 * MiB)


@pytest.fixture(params=["unix", "tcp"])
def server(image, request):
    options = {"address": NbdAddress(host="127.0.0.1", port=0)} if request.param == "tcp" else {}
    with serving(image, **options) as server:
        yield server


def content(node):
    data = bytearray(node.size)
    node.read_into(0, data)
    return bytes(data)


def nbdsh(server, script):
    # nbdsh runs whatever python3 comes first; its module belongs to the system's.
    uri = f"uri = '{server.uri('disk')}'"
    run("nbdsh", "-c", uri, "-c", script, env={"PATH": "/usr/bin:/bin"})


def test_nbdinfo_lists_and_describes(server):
    server.add_export(Export("second", MemoryNode(512), description="the second one"))
    found = json.loads(run("nbdinfo", "--json", "--list", server.uri()))
    assert found["protocol"] == "newstyle-fixed"
    assert found["structured"]
    exports = {export["export-name"]: export for export in found["exports"]}
    assert set(exports) == {"disk", "second"}
    assert exports["second"]["description"] == "the second one"
    disk = exports["disk"]
    assert disk["export-size"] == 16 * MiB
    for ability in ("can_multi_conn", "can_fua", "can_flush", "can_trim", "can_zero", "can_df"):
        assert disk[ability], ability
    assert disk["can_cache"]
    assert disk["can_fast_zero"]
    assert not disk["is_read_only"]
    assert disk["block_size_maximum"] == 32 * MiB


def test_nbdinfo_maps_allocation_and_dirt(server, image):
    server.find("disk").set_bitmap("job", Bitmap())
    image.write(1 * MiB, pattern(2 * MiB))
    uri = server.uri("disk")
    assert [
        (run["offset"], run["length"], run["type"])
        for run in json.loads(run("nbdinfo", "--json", "--map", uri))
    ] == [(0, 1 * MiB, 3), (1 * MiB, 2 * MiB, 0), (3 * MiB, 13 * MiB, 3)]
    dirty = json.loads(run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:job", uri))
    assert [(run["offset"], run["length"], run["type"]) for run in dirty] == [
        (n * 64 * KiB, 64 * KiB, n % 2) for n in range(16)
    ] + [(1 * MiB, 15 * MiB, 0)]


def test_qemu_img_sees_allocation_and_dirt(server, image):
    server.find("disk").set_bitmap("job", Bitmap())
    image.write(1 * MiB, pattern(2 * MiB))
    found = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", server.uri("disk")))
    assert [(run["start"], run["length"], run["zero"]) for run in found] == [
        (0, 1 * MiB, True),
        (1 * MiB, 2 * MiB, False),
        (3 * MiB, 13 * MiB, True),
    ]
    # QEMU shows a dirty bitmap through this option: dirty is "no data".
    place = server.address
    options = (
        f"server.type=unix,server.path={place.socket_path}"
        if place.is_unix
        else f"server.type=inet,server.host={place.host},server.port={place.port}"
    )
    bitmap = f"driver=nbd,{options},export=disk,x-dirty-bitmap=qemu:dirty-bitmap:job"
    found = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", bitmap))
    assert [run["data"] for run in found[:16]] == [n % 2 == 0 for n in range(16)]


def test_nbdcopy_in_and_out(server, image, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(pattern(4 * MiB) + bytes(4 * MiB) + pattern(8 * MiB, 7))
    run("nbdcopy", "--flush", source, server.uri("disk"))
    assert content(image) == source.read_bytes()
    run("nbdcopy", server.uri("disk"), back)
    assert back.read_bytes() == source.read_bytes()
    with serving(16 * MiB) as other:
        run("nbdcopy", server.uri("disk"), other.uri("disk"))
        run("nbdcopy", "--synchronous", other.uri("disk"), back)
    assert back.read_bytes() == source.read_bytes()


def test_nbdsh_makes_every_request(server, image):
    script = """
h.connect_uri(uri)
h.pwrite(b'a' * 5000, 1234, nbd.CMD_FLAG_FUA)
assert h.pread(5000, 1234) == b'a' * 5000
h.zero(1000, 1234, nbd.CMD_FLAG_FAST_ZERO)
h.zero(1000, 65536, nbd.CMD_FLAG_NO_HOLE)
h.trim(65536, 131072)
h.cache(1048576, 0)
h.flush()
parts = []
h.pread_structured(70000, 0, lambda *a: parts.append(a[1:3]), nbd.CMD_FLAG_DF)
assert parts == [(0, nbd.READ_DATA)], parts
h.set_strict_mode(0)
for request, error in (
    (lambda: h.pread(1, h.get_size()), 'EINVAL'),
    (lambda: h.pwrite(b'x', h.get_size()), 'ENOSPC'),
    (lambda: h.trim(1, h.get_size()), 'EINVAL'),
    (lambda: h.pread(1, 0, 1 << 9), 'EINVAL'),
):
    try:
        request()
    except nbd.Error as failed:
        assert failed.errno == error, (failed.errno, error)
    else:
        assert False, error
assert h.pread(4, 2234) == b'aaaa'
cookies = [h.aio_pread(nbd.Buffer(4096), n * 4096) for n in range(64)]
while h.aio_in_flight():
    h.poll(-1)
h.shutdown()
"""
    nbdsh(server, script)
    expected = bytearray(16 * MiB)
    expected[2234:6234] = b"a" * 4000
    assert content(image) == expected


def test_qemu_io_writes_and_reads(server, image):
    run(
        *("qemu-io", "-f", "raw", "-c", "write -P 7 1M 3M", "-c", "read -P 7 1M 3M"),
        *("-c", "write -z -u 2M 64k", "-c", "read -P 0 2M 64k", "-c", "discard 3M 64k"),
        *("-c", "aio_write -P 9 5M 1M", "-c", "aio_write -P 8 6M 1M", "-c", "aio_flush"),
        *("-c", "read -P 8 6M 1M", "-c", "writev -P 3 8M 512 1k 4k", "-c", "flush"),
        server.uri("disk"),
    )
    data = content(image)
    assert data[5 * MiB : 7 * MiB] == b"\x09" * MiB + b"\x08" * MiB


def test_qemu_img_converts_and_compares(server, image, tmp_path):
    source, qcow2 = tmp_path / "source", tmp_path / "copy.qcow2"
    source.write_bytes(pattern(6 * MiB) + bytes(10 * MiB))
    uri = server.uri("disk")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    assert content(image) == source.read_bytes()
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, qcow2)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", uri, qcow2)


@pytest.mark.parametrize(
    "options",
    [
        ("--rw=randwrite", "--bs=4k", "--iodepth=32"),
        ("--rw=randrw", "--bsrange=512-256k", "--bs_unaligned=1", "--iodepth=16"),
        ("--rw=write", "--bs=1M", "--iodepth=4", "--numjobs=2", "--offset_increment=8M"),
    ],
    ids=["small", "unaligned", "large"],
)
def test_fio_verifies_what_it_wrote(server, options):
    size = "8M" if "--numjobs=2" in options else "16M"
    run(
        *("fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri('disk')}"),
        *(
            f"--size={size}",
            "--verify=crc32c",
            "--verify_state_save=0",
            "--verify_fatal=1",
            "--fsync=64",
            "--end_fsync=1",
        ),
        *("--randseed=1", *options),
    )


def test_fio_on_a_file_with_waiting_requests(tmp_path):
    """Handed over requests and direct ones, mixed at random, never give a wrong byte."""

    class Sometimes(FileNode):
        reads_wait = True
        writes_wait = True

        def try_read_into(self, offset, buffer):
            if offset // 4096 % 3:
                return False
            self.read_into(offset, buffer)
            return True

    path = tmp_path / "image"
    path.write_bytes(bytes(16 * MiB))
    node = Sometimes(path)
    with serving(node) as server:
        run(
            *("fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri('disk')}"),
            *(
                "--rw=randrw",
                "--bs=4k",
                "--size=16M",
                "--iodepth=32",
                "--verify=crc32c",
                "--verify_state_save=0",
            ),
            *("--verify_fatal=1", "--randseed=3", "--fsync=50"),
        )
        statistics = server.connections()
        assert statistics == () or statistics[0].errors == 0
    node.close()


def test_qemu_storage_daemon_mounts_it_as_a_node(server, image, tmp_path):
    """QEMU's own client keeps many requests in flight; here it exports our export again."""
    again = tmp_path / "again"
    place = server.address
    where = (
        {"type": "unix", "path": place.socket_path}
        if place.is_unix
        else {"type": "inet", "host": place.host, "port": str(place.port)}
    )
    node = json.dumps({"driver": "nbd", "node-name": "n", "server": where, "export": "disk"})
    daemon = subprocess.Popen(
        [
            *("qemu-storage-daemon", "--blockdev", node),
            *("--nbd-server", f"addr.type=unix,addr.path={again}"),
            *("--export", "type=nbd,id=e,node-name=n,name=again,writable=on"),
        ]
    )
    try:
        wait_until(lambda: again.exists() or daemon.poll() is not None)
        run(
            *("fio", "--name=verify", "--ioengine=nbd", f"--uri=nbd+unix:///again?socket={again}"),
            *(
                "--rw=randwrite",
                "--bs=16k",
                "--size=16M",
                "--iodepth=16",
                "--verify=crc32c",
                "--verify_state_save=0",
            ),
            *("--verify_fatal=1", "--randseed=5"),
        )
        assert any("qemu" in look.peer for look in server.connections()) or not place.is_unix
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)


def test_killing_a_real_client_in_the_middle_leaves_no_half_write(image):
    with serving(image) as server:
        for _ in range(5):
            client = subprocess.Popen(
                [
                    *("fio", "--name=w", "--ioengine=nbd", f"--uri={server.uri('disk')}"),
                    *("--rw=randwrite", "--bs=64k", "--iodepth=16", "--size=16M"),
                    *("--time_based", "--runtime=60", "--buffer_pattern=0xa5"),
                ],
                stdout=subprocess.DEVNULL,
            )
            wait_until(
                lambda: sum(look.writes for look in server.connections()) > 20, "fio does nothing"
            )
            client.send_signal(signal.SIGKILL)
            client.wait()
            # fio's worker is a process of its own, which its parent's death does not end at once.
            for look in server.connections():
                pid = int(re.search(r"pid (\d+)", look.peer)[1])
                subprocess.run(["kill", "-9", str(pid)], check=False, capture_output=True)
            wait_until(lambda: not server.connections())
            data = content(image)
            for offset in range(0, len(data), 64 * KiB):
                assert data[offset : offset + 64 * KiB] in (bytes(64 * KiB), b"\xa5" * 64 * KiB)


def test_stopping_the_server_under_load_ends_real_clients_with_an_error():
    node = WaitingNode(16 * MiB)
    node.open = True
    with serving(node) as server:
        client = subprocess.Popen(
            [
                *("fio", "--name=r", "--ioengine=nbd", f"--uri={server.uri('disk')}"),
                *("--rw=randread", "--bs=4k", "--iodepth=16", "--size=16M"),
                *("--time_based", "--runtime=60"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: sum(look.reads for look in server.connections()) > 100)
        assert server.stop(PATIENCE_S)
        assert client.wait(PATIENCE_S) != 0


def test_the_kernels_client_negotiates_the_old_way(image):
    """What nbd-client does: EXPORT_NAME or GO, simple replies, no structure at all."""
    with serving(image) as server:
        image.write(0, b"kernel")
        script = """
h.set_request_structured_replies(False)
h.connect_uri(uri)
assert not h.get_structured_replies_negotiated()
assert h.pread(6, 0) == b'kernel'
h.pwrite(b'linux!', 0)
assert h.pread(6, 0) == b'linux!'
"""
        nbdsh(server, script)
        assert content(image)[:6] == b"linux!"


def test_no_client_is_needed_to_see_that_tcp_has_no_delay(image):
    with (
        serving(image, address=NbdAddress(host="127.0.0.1", port=0)) as server,
        socket.create_connection((server.address.host, server.address.port)) as client,
    ):
        client.recv(18)  # the greeting: the server has prepared the connection
        (connection,) = server._connections.values()
        sock = connection._sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
