"""Each row of ``mirrorgui/qmp/DIFFERENCES.md``, on both programs where that is possible."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mirrorgui.qmp
from mirrorgui.errors import InvalidInput
from mirrorgui.qmp import client, parser
from mirrorgui.qmp.address import parse_address
from tests.qmp import test_server
from tests.qmp.gate import far
from tests.qmp.peers import Peer, running, start_daemon, start_ours
from tests.qmp.scripts import (
    KiB,
    MiB,
    allocated,
    compare,
    complete,
    export,
    guest,
    images,
    img,
    mirror,
    pattern,
    play,
    statuses,
)

pytestmark = pytest.mark.interop

Peers = tuple[Peer, Peer]
Test = Callable[..., Any]

TESTED: list[str] = []
"""Ids of the rows that have a test here."""


def difference(row: str) -> Callable[[Test], Test]:
    def register(test: Test) -> Test:
        TESTED.append(row)
        return test

    return register


def file_of(name: str) -> dict[str, str]:
    return {"driver": "file", "filename": name}


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    (folder,) = mirrorgui.qmp.__path__
    text = (Path(folder) / "DIFFERENCES.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == TESTED


@difference("exact-size")
@pytest.mark.parametrize("size", [1000, 65537])
def test_exact_size(peers: Peers, size: int) -> None:
    lengths = []
    for peer in peers:
        images(peer, size)
        mirror(peer)
        data = peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        lengths.append(((peer.folder / "t.raw").stat().st_size, data["len"]))
        assert (peer.folder / "t.raw").read_bytes()[:size] == pattern(size)
    rounded = -(-size // 512) * 512
    assert lengths == [(rounded, rounded), (size, size)]


@difference("ignore-back-off")
def test_ignore_back_off(peers: Peers) -> None:
    counts = []
    for peer in peers:
        images(peer)
        fail = {"event": "none", "iotype": "write", "sector": 0}
        broken = {"driver": "blkdebug", "image": "t", "inject-error": [fail], "node-name": "b"}
        peer.ok("blockdev-add", broken)
        mirror(peer, target="b", on_target_error="ignore")
        peer.wait_for("BLOCK_JOB_ERROR")
        ends = time.monotonic() + 0.3
        while time.monotonic() < ends:
            peer.receive(ends - time.monotonic())
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("null")
        counts.append(sum(name == "BLOCK_JOB_ERROR" for name, _ in peer.events()))
    assert counts[0] > 50 > 20 > counts[1]


@difference("smooth-speed")
def test_smooth_speed(peers: Peers) -> None:
    sooner = []
    for peer in peers:
        images(peer, 8 * MiB)
        began = time.monotonic()
        mirror(peer, speed=4 * MiB)
        peer.until(lambda peer=peer: peer.job()["offset"] >= 4 * MiB)
        offset, elapsed = peer.job()["offset"], time.monotonic() - began
        sooner.append(offset > 4 * MiB * (elapsed + 0.15))
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("null")
    assert sooner == [True, False]


@difference("refused-jobs")
def test_refused_jobs(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        images(peer)
        assert "error" in mirror(peer, speed=-1)

    theirs, own = (play(peer, script) for peer in peers)
    assert own.replies == theirs.replies
    assert statuses(theirs.events) == ["created", "null"]
    assert own.events == []


@difference("quit-drain")
def test_quit_drain(tmp_path: Path) -> None:
    told = []
    for name, start in (("qemu", start_daemon), ("ours", start_ours)):
        with running(start, tmp_path / name) as peer:
            images(peer)
            mirror(peer)
            peer.wait_for("BLOCK_JOB_READY")
            peer.forget_events()
            peer.ok("quit")
            told.append(statuses(peer.events()))
    end = ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]
    assert told == [["standby", "ready", *end], end]
    for name, start in (("qemu", start_daemon), ("ours", start_ours)):
        with running(start, tmp_path / name) as peer:
            images(peer)
            mirror(peer)
            peer.wait_for("BLOCK_JOB_READY")
            peer.forget_events()
            peer.ok("blockdev-add", driver="raw", file="s", node_name="above")
            if peer.is_ours:
                peer.ok("query-jobs")  # what had happened would have been told before
                assert peer.events() == []
            else:
                peer.wait_for_status("standby")


@difference("later-members")
def test_later_members(peers: Peers) -> None:
    daemon, ours = peers
    change = {"id": "job", "type": "mirror", "copy-mode": "write-blocking"}
    assert "has not been found" in daemon.desc("block-job-change", change)
    zero = "Parameter 'target-is-zero' is unexpected"
    images(daemon)
    assert mirror(daemon, target_is_zero=True)["error"]["desc"] == zero
    images(ours)
    assert mirror(ours, target_is_zero=True) == {"return": {}}
    ours.wait_for("BLOCK_JOB_READY")
    assert ours.ok("query-block-jobs")[0]["actively-synced"] is False
    ours.ok("block-job-change", change)
    ours.until(lambda: ours.ok("query-block-jobs")[0]["actively-synced"])
    back = ours.desc("block-job-change", {**change, "copy-mode": "background"})
    assert back == "Change to copy mode 'background' is not implemented"
    complete(ours)
    assert (ours.folder / "t.raw").read_bytes() == pattern(MiB)


def map_of_job(peer: Peer) -> dict[str, Any]:
    """Return the map of the mirror's snapshot, in four cells."""
    snapshot: dict[str, Any] = peer.ok("x-mirror-snapshot", id="job", cells=4)
    told: dict[str, Any] = snapshot["map"]
    return told


@difference("own-commands")
def test_own_commands(peers: Peers) -> None:
    daemon, ours = peers
    assert "has not been found" in daemon.desc("x-mirror-snapshot", id="job")
    images(ours)
    mirror(ours, speed=1, buf_size=64 * KiB)
    # The bitmap is clean until the job has looked over its source.
    ours.until(lambda: sum(map_of_job(ours)["dirty"]) > 0)
    told = map_of_job(ours)
    assert told["cells"] == len(told["dirty"]) == 4
    assert told["chunks"] == MiB // (64 * KiB)
    assert sum(told["dirty"]) <= told["chunks"]
    ours.ok("job-cancel", id="job")


@difference("fewer-commands")
def test_fewer_commands(peers: Peers) -> None:
    theirs, own = ({each["name"] for each in peer.ok("query-commands")} for peer in peers)
    assert own - theirs == {"block-job-change", "x-mirror-snapshot"}
    _, ours = peers
    assert "has not been found" in ours.desc("block-commit", device="x")
    text = "Parameter 'driver' does not accept value 'quorum'"
    assert ours.desc("blockdev-add", driver="quorum") == text


@difference("unsupported-options")
@pytest.mark.parametrize(
    "option",
    [
        {"aio": "native"},
        {"cache": {"direct": True}},
        {"pr-manager": "x"},
        {"drop-cache": True},
        {"driver": "blkdebug", "max-discard": 512},
        {"driver": "blkdebug", "inject-error": [{"event": "l1_update"}]},
        {"driver": "qcow2", "overlap-check": "all"},
        {"driver": "qcow2", "cache-clean-interval": 600},
        {"driver": "qcow2", "l2-cache-entry-size": 4096},
    ],
    ids=str,
)
def test_unsupported_options(peers: Peers, option: dict[str, Any]) -> None:
    _, ours = peers
    place: dict[str, Any] = {"filename": "s.raw"}
    ours.image("s.raw", MiB)
    if option.get("driver") == "qcow2":
        path = ours.folder / "s.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
        place = {"file": {"driver": "file", "filename": "s.qcow2"}}
    elif "driver" in option:
        place = {"image": {"driver": "file", "filename": "s.raw"}}
    refused = ours.desc("blockdev-add", {"driver": "file", **place, "node-name": "s", **option})
    assert "unexpected" not in refused
    assert ours.ok("query-named-block-nodes") == []


@difference("own-texts")
def test_own_texts(peers: Peers) -> None:
    def script(peer: Peer) -> None:
        (peer.folder / "folder").mkdir()
        peer.desc("blockdev-add", driver="file", node_name="n", filename="folder")

    theirs, own = (play(peer, script).replies[0]["error"] for peer in peers)
    assert own["class"] == theirs["class"] == "GenericError"
    assert "folder" in own["desc"]


@difference("several-clients")
def test_several_clients(peers: Peers) -> None:
    _, ours = peers
    other = ours.another()
    images(ours)
    mirror(ours)
    other.wait_for("BLOCK_JOB_READY")
    other.ok("job-complete", id="job")
    ours.wait_for_status("null")
    other.wait_for_status("null")
    assert other.events() == ours.events()
    other.close()


@difference("slow-clients")
def test_slow_clients() -> None:
    # Played on a stage, where it does not take 8 MiB of events.
    limit = client.MAX_UNREAD
    assert limit == 8 * MiB
    assert test_server.test_a_client_that_does_not_read_is_cut_and_the_others_go_on


@difference("browsers")
def test_browsers() -> None:
    assert test_server.test_a_browser_is_cut  # played there, on a port


@difference("loopback-only")
def test_loopback_only() -> None:
    with pytest.raises(InvalidInput, match="can be reached from elsewhere"):
        parse_address("tcp:0.0.0.0:4444")


@difference("limits")
def test_limits(peers: Peers) -> None:
    limits = parser.MAX_NESTING, parser.MAX_TOKENS, parser.MAX_SIZE
    assert limits == (128, 128 * KiB, MiB)
    deep = b"[" * 200 + b"]" * 200
    for peer, fits in zip(peers, (True, False), strict=True):
        peer.send(b'{"execute":"query-version","id":' + deep + b"}\n")
        message = peer.receive()
        assert message is not None
        assert ("return" in message) is fits
        peer.send(b'\xff{"execute":"query-version","id":"behind"}\n')
        while message is not None and message.get("id") != "behind":
            message = peer.receive()
        assert message is not None


@difference("numbers")
def test_numbers() -> None:
    def read(text: bytes) -> list[parser.Parsed]:
        return list(parser.JsonStream().feed(text))

    (infinite,) = read(b"[1e400]")
    assert infinite.error is not None
    (zero,) = read(b"[0e5]")
    assert zero.value == [0]
    (whole,) = read(b"[1e5]")
    assert json.dumps(whole.value) == "[100000.0]"


@difference("negative-sizes")
def test_negative_sizes(peers: Peers) -> None:
    daemon, ours = peers
    options = {"driver": "file", "filename": "new.raw", "size": -1}
    text = ours.desc("blockdev-create", job_id="create", options=options)
    assert text == "Parameter 'options.size' expects uint64"
    daemon.ok("blockdev-create", job_id="create", options=options)
    daemon.wait_for_status("concluded", "create")
    daemon.ok("job-dismiss", id="create")


@difference("job-bitmap")
def test_job_bitmap(peers: Peers) -> None:
    shown = []
    for peer in peers:
        images(peer)
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        nodes = peer.ok("query-named-block-nodes", flat=True)
        shown.append(any("dirty-bitmaps" in node for node in nodes))
        peer.ok("job-cancel", id="job")
        peer.wait_for_status("null")
    assert shown == [True, False]


@difference("nbd-reconnect")
def test_nbd_reconnect() -> None:
    from mirrorgui.block.nbd import RECONNECT_S

    # What a delay of 0 does is played on both in the scenario S99.
    assert RECONNECT_S == 10


@difference("hung-requests")
def test_hung_requests(peers: Peers) -> None:
    given_up = []
    for peer in peers:
        with far(peer, "t", MiB, pattern(MiB)) as gate:
            write = gate.keep("write")
            mirror(peer)
            write.wait()
            peer.ok("block-job-cancel", device="job", force=True)
            if peer.is_ours:
                peer.wait_for_status("null")
            given_up.append(peer.asked("query-jobs") == [])
            write.lift()
            peer.wait_for_status("null")
    assert given_up == [False, True]


@difference("blkdebug-events")
def test_blkdebug_events(peers: Peers) -> None:
    met = []
    for peer in peers:
        images(peer)
        fail = {"event": "read_aio", "iotype": "read"}
        broken = {"driver": "blkdebug", "image": "s", "inject-error": [fail], "node-name": "b"}
        peer.ok("blockdev-add", broken)
        mirror(peer, device="b")
        peer.wait_for("JOB_STATUS_CHANGE", count=3)
        peer.until(lambda peer=peer: _is_at_rest(peer))
        met.append(any(name == "BLOCK_JOB_ERROR" for name, _ in peer.events()))
        peer.execute("job-cancel", id="job")
    assert met == [False, True]


def _is_at_rest(peer: Peer) -> bool:
    return {job["status"] for job in peer.ok("query-jobs")} <= {"ready"}


@difference("guessed-targets")
def test_guessed_targets(peers: Peers) -> None:
    overwritten = []
    for peer in peers:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.add("s", "s.raw")
        img(peer, "create", "-q", "-f", "qcow2", "t.img", MiB)
        os.truncate(peer.folder / "t.img", MiB)
        wanted = {"job_id": "job", "device": "s", "target": "t.img", "sync": "full"}
        peer.ok("drive-mirror", mode="existing", **wanted)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        overwritten.append((peer.folder / "t.img").read_bytes() == pattern(MiB))
        compare(peer, "s.raw", "t.img", "raw", "raw" if overwritten[-1] else "qcow2")
    assert overwritten == [True, False]


@difference("backing-is-source")
def test_backing_is_source(peers: Peers) -> None:
    told = []
    for peer in peers:
        for name, below in (("s", "base"), ("t", "s")):
            options = ["-b", f"{below}.qcow2", "-F", "qcow2"] if below != "base" else []
            img(peer, "create", "-q", "-f", "qcow2", *options, f"{name}.qcow2", MiB)
        file = {"driver": "file", "filename": "s.qcow2"}
        peer.ok("blockdev-add", driver="qcow2", node_name="s", file=file)
        wanted = {"job_id": "job", "device": "s", "target": "t.qcow2", "format": "qcow2"}
        peer.ok("drive-mirror", mode="existing", sync="none", **wanted)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        told.append(peer.wait_for("BLOCK_JOB_COMPLETED").get("error"))
    assert told == ["Invalid argument", None]


@difference("missing-backing")
@pytest.mark.parametrize("command", [{"device": "job"}, {"id": "job"}])
def test_missing_backing(peers: Peers, command: dict[str, str]) -> None:
    daemon, ours = peers
    name = "block-job-complete" if "device" in command else "job-complete"
    for peer in peers:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.add("s", "s.raw")
        img(peer, "create", "-q", "-f", "qcow2", "base.qcow2", MiB)
        img(peer, "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "t.qcow2")
        wanted = {"job_id": "job", "device": "s", "target": "t.qcow2", "format": "qcow2"}
        peer.ok("drive-mirror", mode="existing", sync="top", **wanted)
        peer.wait_for("BLOCK_JOB_READY")
        (peer.folder / "base.qcow2").rename(peer.folder / "hidden")
    daemon.ok(name, command)
    assert daemon.wait_for("BLOCK_JOB_COMPLETED")["error"] == "Invalid argument"
    text = "Could not open backing file: Could not open 'base.qcow2': No such file or directory"
    assert ours.execute(name, command) == {"error": {"class": "GenericError", "desc": text}}
    assert ours.job()["status"] == "ready"
    (ours.folder / "hidden").rename(ours.folder / "base.qcow2")
    ours.ok(name, command)
    assert "error" not in ours.wait_for("BLOCK_JOB_COMPLETED")
    compare(ours, "s.raw", "t.qcow2", "raw", "qcow2")


@difference("same-file")
def test_same_file(peers: Peers) -> None:
    for peer in peers:
        peer.image("a.raw", MiB, pattern(MiB))
        for node in "st":
            peer.add(node, "a.raw", locking="off")
    daemon, ours = peers
    assert mirror(daemon) == {"return": {}}
    daemon.wait_for("BLOCK_JOB_READY")
    assert mirror(ours)["error"]["desc"] == "Source and target are the same image."


@difference("locks-at-open")
def test_locks_at_open(peers: Peers) -> None:
    for peer in peers:
        peer.image("a.raw", MiB)
        peer.add("s", "a.raw")
    daemon, ours = peers
    daemon.add("t", "a.raw")
    assert mirror(daemon)["error"]["desc"] == 'Failed to get shared "consistent read" lock'
    text = ours.desc("blockdev-add", driver="file", filename="a.raw", node_name="t")
    assert text == 'Failed to get "write" lock'


@difference("discard-default")
def test_discard_default(peers: Peers) -> None:
    for peer in peers:
        path = peer.image("s.raw", MiB, pattern(MiB))
        peer.add("s", "s.raw")
        guest(export(peer, "s"), "discard 0 512k", "flush")
        assert (allocated(path) < MiB) == peer.is_ours
        ignoring = {"discard": "ignore", "detect-zeroes": "unmap"}
        peer.image("t.raw", MiB)
        for options in (ignoring, {"detect-zeroes": "unmap"}):
            node = {"driver": "file", "filename": "t.raw", "node-name": "t", **options}
            answer = peer.execute("blockdev-add", node)
            assert ("return" in answer) == (peer.is_ours and "discard" not in options)


@difference("discards-mirrored")
def test_discards_mirrored(peers: Peers) -> None:
    for peer in peers:
        source = peer.image("s.raw", MiB, pattern(MiB))
        target = peer.image("t.raw", MiB)
        for node in "st":
            peer.add(node, f"{node}.raw", discard="unmap")
        uri = export(peer, "s")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        guest(uri, "discard 0 512k")
        complete(peer)
        compare(peer, "s.raw", "t.raw")
        for path in (source, target):
            assert (allocated(path) < MiB) == peer.is_ours


@difference("paused-writes")
def test_paused_writes(peers: Peers) -> None:
    for peer in peers:
        images(peer)
        uri = export(peer, "s")
        mirror(peer, copy_mode="write-blocking")
        peer.wait_for("BLOCK_JOB_READY")
        peer.ok("job-pause", id="job")
        peer.wait_for_status("standby")
        guest(uri, "write -P 9 512k 64k")
        source, target = ((peer.folder / f"{name}.raw").read_bytes() for name in "st")
        assert (source != target) == peer.is_ours
        peer.ok("job-resume", id="job")
        peer.wait_for_status("ready", count=2)
        complete(peer)
        compare(peer, "s.raw", "t.raw")


@difference("zero-pass")
def test_zero_pass(peers: Peers) -> None:
    fails = {"event": "none", "iotype": "write-zeroes"}
    for peer in peers:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.image("t.raw", MiB)
        peer.add("s", "s.raw")
        unmap = {"discard": "unmap"}
        bug = {"driver": "blkdebug", "image": {**file_of("t.raw"), **unmap}, **unmap}
        peer.ok("blockdev-add", {**bug, "inject-error": [fails], "node-name": "t"})
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY" if peer.is_ours else "BLOCK_JOB_ERROR")


@difference("status-errors")
@pytest.mark.parametrize("policy", ["report", "ignore"])
def test_status_errors(peers: Peers, policy: str) -> None:
    fails = {"event": "none", "iotype": "block-status"}
    for peer in peers:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.image("t.raw", MiB)
        image = {"driver": "file", "filename": "s.raw"}
        bug = {"driver": "blkdebug", "image": image, "inject-error": [fails], "node-name": "s"}
        peer.ok("blockdev-add", bug)
        peer.add("t", "t.raw")
        mirror(peer, on_source_error=policy)
        if peer.is_ours:
            peer.wait_for("BLOCK_JOB_ERROR", operation="read", action=policy)
        if policy == "ignore" or not peer.is_ours:
            peer.wait_for("BLOCK_JOB_READY")
            complete(peer)
            compare(peer, "s.raw", "t.raw")


@difference("pivot-flags")
def test_pivot_flags(peers: Peers) -> None:
    for peer in peers:
        peer.image("s.raw", MiB, pattern(MiB))
        peer.image("t.raw", MiB)
        peer.add("s", "s.raw", read_only=True)
        peer.add("t", "t.raw")
        mirror(peer)
        peer.wait_for("BLOCK_JOB_READY")
        complete(peer)
        nodes = {each["node-name"]: each for each in peer.ok("query-named-block-nodes")}
        assert nodes["t"]["ro"] != peer.is_ours


@difference("backing-format")
def test_backing_format(peers: Peers) -> None:
    for peer in peers:
        peer.image("base.raw", MiB)
        peer.add("f", "base.raw")
        options = {"driver": "qcow2", "file": "f", "size": MiB, "backing-file": "base.raw"}
        peer.ok("blockdev-create", job_id="create", options=options)
        peer.wait_for_status("concluded", "create")
        (job,) = peer.ok("query-jobs")
        assert ("backing-fmt" in job.get("error", "")) == peer.is_ours
        peer.ok("job-dismiss", id="create")


@difference("absolute-backing")
def test_absolute_backing(peers: Peers) -> None:
    for peer in peers:
        peer.image("s.raw", MiB)
        peer.ok("blockdev-add", driver="raw", node_name="s", file=file_of("s.raw"))
        given = {"job-id": "job", "device": "s", "target": "t.qcow2", "format": "qcow2"}
        peer.ok("drive-mirror", {**given, "sync": "none"})
        peer.wait_for("BLOCK_JOB_READY")
        told = json.loads(img(peer, "info", "-U", "--output=json", "t.qcow2"))
        expected = peer.folder / "s.raw" if peer.is_ours else "s.raw"
        assert told["backing-filename"] == str(expected)


@difference("created-files")
def test_created_files(peers: Peers) -> None:
    for peer in peers:
        path = peer.image("n.qcow2", MiB, b"old" * 1000)
        peer.add("f", "n.qcow2")
        for size in (1 << 60, MiB):
            peer.forget_events()
            options = {"driver": "qcow2", "file": "f", "size": size}
            peer.ok("blockdev-create", job_id="create", options=options)
            peer.wait_for_status("concluded", "create")
            peer.ok("job-dismiss", id="create")
            if size > MiB:
                assert path.read_bytes().startswith(b"old" if peer.is_ours else b"QFI\xfb")
        assert path.stat().st_size == (4 * 64 * KiB if peer.is_ours else MiB)


@difference("json-names")
def test_json_names(peers: Peers) -> None:
    for peer in peers:
        peer.image("s.raw", MiB)
        peer.ok("blockdev-add", driver="raw", node_name="s", file=file_of("s.raw"), offset=512)
        (node,) = [each for each in peer.ok("query-named-block-nodes") if each["node-name"] == "s"]
        assert node["file"].startswith("s.raw" if peer.is_ours else "json:{")


@difference("empty-options")
def test_empty_options(peers: Peers) -> None:
    for peer in peers:
        peer.image("s.raw", MiB)
        answer = peer.execute("blockdev-add", {**file_of("s.raw"), "node-name": "s", "cache": {}})
        assert ("return" in answer) == peer.is_ours


@difference("default-export")
def test_default_export(peers: Peers) -> None:
    for peer in peers:
        peer.image("s.raw", MiB)
        peer.add("s", "s.raw")
        uri = export(peer, "s").replace("/disk?", "/?")
        told = subprocess.run(["nbdinfo", "--size", uri], capture_output=True, check=False)
        assert (told.returncode == 0) == peer.is_ours


@difference("socket-files")
def test_socket_files(peers: Peers) -> None:
    for peer in peers:
        path = peer.image("s.raw", MiB)
        addr = {"type": "unix", "data": {"path": "s.raw"}}
        assert ("error" in peer.execute("nbd-server-start", addr=addr)) == peer.is_ours
        assert path.is_file() == peer.is_ours
        peer.execute("nbd-server-stop")
        nowhere = {"type": "unix", "data": {"path": ""}}
        assert ("error" in peer.execute("nbd-server-start", addr=nowhere)) == peer.is_ours
        server = {"type": "unix", "path": ""}
        refused = peer.desc("blockdev-add", driver="nbd", node_name="n", server=server)
        assert "10809" not in refused  # what an empty path stood for once


@difference("inet-addresses")
@pytest.mark.parametrize(
    "wrong",
    [{"port": "http-alt"}, {"port": "99999"}, {"host": ""}, {"to": 9}, {"ipv6": False}],
    ids=str,
)
def test_inet_addresses(peers: Peers, wrong: dict[str, Any]) -> None:
    _, ours = peers
    data = {"host": "127.0.0.1", "port": "0", **wrong}
    ours.desc("nbd-server-start", addr={"type": "inet", "data": data})


@difference("version")
def test_version(peers: Peers) -> None:
    _, ours = peers
    version = ours.ok("query-version")
    assert version["qemu"] == {"major": 7, "minor": 2, "micro": 0}
    assert version["package"].startswith("MirrorGUI ")
