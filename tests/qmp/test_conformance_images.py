"""What becomes of images: sizes, zeroes, headers, chains. Scenarios S08 to S33 and S96."""

import json
from typing import Any

import pytest

from tests.qmp.peers import Peer
from tests.qmp.scripts import (
    KiB,
    MiB,
    allocated,
    compare,
    complete,
    export,
    finish,
    guest,
    images,
    img,
    mirror,
    pattern,
    play_on_both,
    without,
)

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]

progress = without("offset", "len", "current-progress", "total-progress", "busy")


@pytest.mark.parametrize("size", [1000, 65537])
@pytest.mark.parametrize("end", ["complete", "cancel"])
def test_s08_sizes_that_are_no_multiple_of_a_sector(peers: Peers, size: int, end: str) -> None:
    """QEMU's target grows to whole sectors, ours is the image to the byte."""

    def script(peer: Peer) -> None:
        images(peer, size)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        if end == "complete":
            complete(peer)
        else:
            finish(peer)
        target = (peer.folder / "t.raw").read_bytes()
        assert target[:size] == pattern(size)
        assert len(target) == (size if peer.is_ours else -(-size // 512) * 512)

    play_on_both(peers, script, progress)


@pytest.mark.parametrize("detect_zeroes", ["off", "unmap"])
def test_s24_written_zeroes(peers: Peers, detect_zeroes: str) -> None:
    """Ours finds zeroes by itself; QEMU does where the node is told to."""

    def script(peer: Peer) -> None:
        peer.image("s.raw", 8 * MiB, bytes(8 * MiB))
        peer.image("t.raw", 8 * MiB)
        peer.add("s", "s.raw")
        peer.add("t", "t.raw", discard="unmap", detect_zeroes=detect_zeroes)
        mirror(peer)
        data = peer.wait_for("BLOCK_JOB_READY")
        assert data["offset"] == data["len"] == 8 * MiB
        complete(peer)
        compare(peer, "s.raw", "t.raw")
        if peer.is_ours or detect_zeroes == "unmap":
            assert allocated(peer.folder / "t.raw") <= 128 * KiB

    play_on_both(peers, script)


def add_without_zeroes(peer: Peer, **image: Any) -> None:
    """Add a target that fails when it is told to make anything zero."""
    fail = {"event": "none", "iotype": "write-zeroes"}
    node = {"driver": "blkdebug", "node-name": "t", "inject-error": [fail], "discard": "unmap"}
    file = {"driver": "file", "filename": "t.raw", "discard": "unmap"}
    peer.ok("blockdev-add", {**node, "image": file, **image})


def test_s27_a_target_that_is_vouched_for_is_not_made_zero_first(ours: Peer) -> None:
    """Ours alone: ``target-is-zero`` is of QEMU 10.1."""
    for is_zero in (True, False):
        ours.image("s.raw", 8 * MiB, pattern(MiB))
        ours.image("t.raw", 8 * MiB, b"" if is_zero else b"\xa5" * (8 * MiB))
        ours.add("s", "s.raw")
        add_without_zeroes(ours)
        mirror(ours, target_is_zero=is_zero)
        if is_zero:
            ours.wait_for("BLOCK_JOB_READY")
            complete(ours)
            compare(ours, "s.raw", "t.raw")
            assert allocated(ours.folder / "t.raw") <= MiB + 128 * KiB
        else:
            ours.wait_for("BLOCK_JOB_ERROR", operation="write")
            ours.wait_for_status("null", count=2)
        for node in "st":
            ours.ok("blockdev-del", node_name=node)


def test_s28_a_target_that_is_vouched_for_wrongly_keeps_what_is_not_written(ours: Peer) -> None:
    """Ours alone: ``target-is-zero`` is of QEMU 10.1, which believes it as well."""
    ours.image("s.raw", 8 * MiB, pattern(MiB))
    ours.image("t.raw", 8 * MiB, b"\xa5" * (8 * MiB))
    ours.add("s", "s.raw")
    ours.add("t", "t.raw", discard="unmap")
    mirror(ours, target_is_zero=True)
    ours.wait_for("BLOCK_JOB_READY")
    complete(ours)
    assert (ours.folder / "t.raw").read_bytes() == pattern(MiB) + b"\xa5" * (7 * MiB)


HEADERS = {"qcow2": b"QFI\xfb\0\0\0\3", "vmdk": b"KDMV\0\0\0\3"}


def add_raw(peer: Peer) -> None:
    file = {"driver": "file", "filename": "s.raw"}
    peer.ok("blockdev-add", driver="raw", node_name="s", file=file)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("explicit", [False, True])
def test_s33_a_header_is_not_written_to_a_target_that_was_guessed_to_be_raw(
    peers: Peers, header: str, explicit: bool
) -> None:
    def script(peer: Peer) -> None:
        content = HEADERS[header] + pattern(MiB)[8:]
        peer.image("s.raw", MiB, content)
        peer.image("t.raw", MiB)
        add_raw(peer)
        wanted = {"job_id": "job", "device": "s", "sync": "full", "target": "t.raw"}
        more = {"format": "raw"} if explicit else {}
        peer.ok("drive-mirror", mode="existing", buf_size=64 * KiB, **wanted, **more)
        if explicit:
            peer.wait_for("BLOCK_JOB_READY")
            complete(peer)
            assert (peer.folder / "t.raw").read_bytes() == content
            return
        peer.wait_for_status("null")
        completed = peer.wait_for("BLOCK_JOB_COMPLETED")
        assert completed["error"] == "Operation not permitted"
        assert (peer.folder / "t.raw").read_bytes()[:512] == bytes(512)

    play_on_both(peers, script, progress)


def test_s33_a_guest_does_not_make_a_guessed_target_something_else(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.image("t.raw", MiB)
        add_raw(peer)
        uri = export(peer, "s")
        wanted = {"job_id": "job", "device": "s", "sync": "full", "target": "t.raw"}
        peer.ok("drive-mirror", mode="existing", on_target_error="stop", **wanted)
        peer.wait_for("BLOCK_JOB_READY")
        peer.until(lambda: peer.job()["offset"] == MiB)
        (peer.folder / "header").write_bytes(HEADERS["qcow2"] + bytes(504))
        guest(uri, f"write -s {peer.folder / 'header'} 0 512")
        peer.wait_for_status("standby")
        peer.ok("block-job-cancel", device="job", force=True)
        peer.wait_for_status("null")
        assert (peer.folder / "t.raw").read_bytes()[:512] == pattern(512)

    play_on_both(peers, script, progress)


# Chains.

BELOW = {"full": None, "top": "base.raw", "none": "s.qcow2"}
"""What a new target stands on."""


def chain(peer: Peer, node: str) -> list[tuple[str, str]]:
    """Return the files and drivers of a node and of what it stands on; not compared."""
    listed = peer.asked("query-named-block-nodes")
    (found,) = [each for each in listed if each["node-name"] == node]
    image, layers = found["image"], []
    while image is not None:
        name = image["filename"]
        if name.startswith("json:"):  # QEMU's name of an image whose backing file is left out
            name = json.loads(name.removeprefix("json:"))["file"]["filename"]
        layers.append((name, image["format"]))
        image = image.get("backing-image")
    return layers


def add_overlay(peer: Peer, node: str, **options: Any) -> None:
    file = {"driver": "file", "filename": f"{node}.qcow2"}
    peer.ok("blockdev-add", {"driver": "qcow2", "node-name": node, "file": file, **options})


def overlay(peer: Peer) -> None:
    """Make the node ``s`` over ``base.raw``, with other bytes at 256 KiB."""
    peer.image("base.raw", MiB, pattern(MiB))
    img(peer, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "s.qcow2")
    guest(str(peer.folder / "s.qcow2"), "write -P 7 256k 64k", image_format="qcow2")
    peer.ok("blockdev-add", driver="file", node_name="base-file", filename="base.raw")
    peer.ok("blockdev-add", driver="raw", node_name="base", file="base-file", read_only=True)
    add_overlay(peer, "s", backing="base")


# An existing target over the source itself is among the differences: QEMU cannot open it.
@pytest.mark.parametrize(
    ("begin", "sync"),
    [
        *(("made", sync) for sync in BELOW),
        *(("node", sync) for sync in BELOW),
        ("existing", "full"),
        ("existing", "top"),
    ],
)
def test_s96_the_chain_after_a_switch(peers: Peers, begin: str, sync: str) -> None:
    chains = []

    def script(peer: Peer) -> None:
        overlay(peer)
        export(peer, "s")
        wanted = {"job-id": "job", "device": "s", "sync": sync}
        below = BELOW[sync]
        if begin != "made":
            backing = [] if below is None else ["-b", below, "-F", below.rpartition(".")[2]]
            img(peer, "create", "-q", "-f", "qcow2", *backing, "t.qcow2", "1M")
            before = img(peer, "info", "t.qcow2").splitlines()
        if begin == "node":
            # Without one that is open, what it names is opened at the end; nobody may ask for "s".
            node = {"full": None, "top": "base", "none": None}[sync]
            add_overlay(peer, "t", backing=node)
            peer.ok("blockdev-mirror", target="t", **wanted)
        else:
            mode = "existing" if begin == "existing" else "absolute-paths"
            more = {"mode": mode, "format": "qcow2", "node-name": "t"}
            peer.ok("drive-mirror", wanted | more, target="t.qcow2")
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        chains.append(chain(peer, "t"))
        peer.ok("query-block-exports")
        if begin != "made":
            after = img(peer, "info", "-U", "t.qcow2").splitlines()
            named = [line for line in after if line.startswith("backing file")]
            assert named == [line for line in before if line.startswith("backing file")]

    play_on_both(peers, script, progress)
    theirs, own = chains
    assert own == theirs
