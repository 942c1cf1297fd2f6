"""What a mirror between nodes must never do: write over what its source, or the system, needs."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.block import conftest
from tests.qmp.peers import Peer
from tests.qmp.scripts import KiB, MiB, images, img, mirror, pattern

loop_device = conftest.loop_device

SAME = "Source and target are the same image."
OVER = "Source and target lie on one another in a.raw. Writing would destroy the source."


def unlocked(name: str) -> dict[str, Any]:
    return {"driver": "file", "filename": name, "locking": "off"}


def part(name: str, offset: int, size: int = MiB) -> dict[str, Any]:
    return {"driver": "raw", "file": unlocked(name), "offset": offset, "size": size}


def add(peer: Peer, node: str, options: dict[str, Any]) -> None:
    peer.ok("blockdev-add", {**options, "node-name": node})


def refusal(peer: Peer, **arguments: Any) -> str:
    """Begin a mirror that is refused; see that nothing of it stays, and return why."""
    before = {path.name: path.read_bytes() for path in peer.folder.glob("*.raw")}
    error = mirror(peer, **arguments)["error"]
    assert error["class"] == "GenericError"
    assert peer.ok("query-jobs") == []
    assert {path.name: path.read_bytes() for path in peer.folder.glob("*.raw")} == before
    return str(error["desc"])


def test_two_names_of_one_file(ours: Peer) -> None:
    ours.image("a.raw", MiB, pattern(MiB))
    os.link(ours.folder / "a.raw", ours.folder / "hard.raw")
    (ours.folder / "soft.raw").symlink_to("a.raw")
    add(ours, "s", unlocked("a.raw"))
    for name in ("a", "hard", "soft"):
        add(ours, name, unlocked(f"{name}.raw"))
        assert refusal(ours, target=name) == SAME
    for node in ("s", "a", "hard", "soft"):
        ours.ok("blockdev-del", node_name=node)


def test_a_reader_that_ignores_locks_is_mirrored_onto_no_other_node_of_its_file(
    ours: Peer,
) -> None:
    ours.image("a.raw", MiB, pattern(MiB))
    ours.add("s", "a.raw", read_only=True, force_share=True)
    ours.add("t", "a.raw")
    assert refusal(ours) == SAME


@pytest.mark.parametrize(
    ("source", "target"),
    [(0, 0), (0, 64 * KiB), (64 * KiB, 0), (MiB, 2 * MiB - 512), (2 * MiB - 512, MiB)],
)
def test_parts_of_a_file_that_overlap(ours: Peer, source: int, target: int) -> None:
    ours.image("a.raw", 4 * MiB, pattern(4 * MiB))
    add(ours, "s", part("a.raw", source))
    add(ours, "t", part("a.raw", target))
    assert refusal(ours) == (SAME if source == target else OVER)


def test_a_part_and_the_whole(ours: Peer) -> None:
    ours.image("a.raw", MiB, pattern(MiB))
    add(ours, "s", part("a.raw", 0))
    add(ours, "t", unlocked("a.raw"))
    assert refusal(ours) == OVER
    assert refusal(ours, device="t", target="s") == OVER


def test_parts_of_a_file_that_do_not_overlap_are_mirrored(ours: Peer) -> None:
    ours.image("a.raw", 4 * MiB, pattern(4 * MiB))
    add(ours, "s", part("a.raw", MiB))
    add(ours, "t", {"driver": "raw", "file": part("a.raw", 2 * MiB, 2 * MiB), "size": MiB})
    assert mirror(ours) == {"return": {}}
    ours.wait_for("BLOCK_JOB_READY")
    ours.ok("job-complete", id="job")
    ours.wait_for("BLOCK_JOB_COMPLETED")
    was = pattern(4 * MiB)
    assert (ours.folder / "a.raw").read_bytes() == was[: 2 * MiB] + was[MiB : 2 * MiB] + was[
        3 * MiB :
    ]


def test_a_part_of_a_format_is_nowhere(ours: Peer) -> None:
    """What a format stores at an offset of its guest is anywhere in its file."""
    img(ours, "create", "-q", "-f", "qcow2", "a.raw", 4 * MiB)
    qcow2 = {"driver": "qcow2", "file": unlocked("a.raw")}
    add(ours, "s", {"driver": "raw", "file": qcow2, "offset": 2 * MiB, "size": MiB})
    add(ours, "t", part("a.raw", 0, 64 * KiB))
    assert refusal(ours) == OVER


def test_an_image_below_the_source(ours: Peer) -> None:
    ours.image("base.raw", MiB, pattern(MiB))
    for upper, lower, kind in (("mid", "base.raw", "raw"), ("top", "mid.qcow2", "qcow2")):
        img(ours, "create", "-q", "-f", "qcow2", "-b", lower, "-F", kind, f"{upper}.qcow2")
    base = {"driver": "raw", "file": unlocked("base.raw")}
    mid = {"driver": "qcow2", "file": unlocked("mid.qcow2"), "backing": base}
    add(ours, "s", {"driver": "qcow2", "file": unlocked("top.qcow2"), "backing": mid})
    for target, level in ((part("base.raw", 0), "2 levels"), (unlocked("mid.qcow2"), "1 level")):
        add(ours, "t", target)
        assert f"is part of the source's backing chain ({level} below)" in refusal(ours)
        ours.ok("blockdev-del", node_name="t")


def test_a_data_file_of_the_source(ours: Peer) -> None:
    options = "data_file=data.raw,data_file_raw=on"
    img(ours, "create", "-q", "-f", "qcow2", "-o", options, "s.qcow2", MiB)
    source = {"driver": "qcow2", "file": unlocked("s.qcow2"), "data-file": unlocked("data.raw")}
    add(ours, "s", source)
    add(ours, "t", unlocked("data.raw"))
    assert refusal(ours) == "data.raw is a data file of the source."


@pytest.mark.parametrize("mode", ["existing", "absolute-paths"])
def test_drive_mirror_onto_its_source(ours: Peer, mode: str) -> None:
    ours.image("a.raw", MiB, pattern(MiB))
    add(ours, "s", unlocked("a.raw"))
    wanted = {"job-id": "job", "device": "s", "sync": "full", "mode": mode, "format": "raw"}
    assert ours.desc("drive-mirror", wanted, target="a.raw") in (SAME, OVER)
    assert (ours.folder / "a.raw").read_bytes() == pattern(MiB)
    assert ours.ok("query-jobs") == []
    assert len(ours.ok("query-named-block-nodes")) == 1


def test_drive_mirror_onto_its_source_by_options(ours: Peer) -> None:
    ours.image("a.raw", MiB, pattern(MiB))
    add(ours, "s", unlocked("a.raw"))
    target = "json:" + json.dumps({"driver": "raw", "file": unlocked("a.raw")})
    wanted = {"job-id": "job", "device": "s", "sync": "full", "mode": "existing"}
    assert ours.desc("drive-mirror", wanted, target=target) == OVER
    assert len(ours.ok("query-named-block-nodes")) == 1


def test_drive_mirror_does_not_replace_what_its_source_stands_on(ours: Peer) -> None:
    ours.image("base.raw", MiB, pattern(MiB))
    img(ours, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "s.qcow2")
    backing = {"driver": "raw", "file": unlocked("base.raw")}
    add(ours, "s", {"driver": "qcow2", "file": unlocked("s.qcow2"), "backing": backing})
    wanted = {"job-id": "job", "device": "s", "sync": "top", "format": "raw"}
    assert "backing chain" in ours.desc("drive-mirror", wanted, target="base.raw")
    assert (ours.folder / "base.raw").read_bytes() == pattern(MiB)


@pytest.mark.root
def test_a_target_that_the_system_uses(ours: Peer, loop_device: Callable[..., str]) -> None:
    images(ours)
    device = loop_device(ours.folder / "t.raw")
    assert refusal(ours) == f"t.raw is in use: used by {device}. Release it first."
