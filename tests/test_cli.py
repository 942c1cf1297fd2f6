"""The commands by their words: what is refused and how, ``info`` and ``compare``, the streams."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.units import KiB, MiB
from tests.block import conftest as block
from tests.block.conftest import luks_image, run, stamped
from tests.running import (
    PATIENCE_S,
    as_nobody,
    background,
    blkdebug,
    command,
    environment,
    fingerprint,
    inside,
    last_line,
    mirrorgui,
    same,
)

loop_device = block.loop_device

HEADLESS_SETS = (
    ("--version",),
    ("--help",),
    ("run", "--help"),
    ("info", "s.raw"),
    ("compare", "s.raw", "s.raw"),
    ("run", "s.raw", "t.raw"),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An image with data, written zeroes, a hole, and an odd length."""
    path = tmp_path / "s.raw"
    with path.open("wb") as stream:
        stream.write(stamped(1 * MiB) + bytes(512 * KiB))
        stream.seek(3 * MiB)
        stream.write(stamped(100_001, seed=2))
    return path


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run what must be refused with status 2 and change nothing; returns the sentence."""

    def run_refused(*arguments: object) -> str:
        before = fingerprint(tmp_path)
        assert inside("run", *arguments) == 2
        assert fingerprint(tmp_path) == before
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.count("\n") == 1, told.err
        assert told.err.startswith("mirrorgui: ")
        return told.err.removeprefix("mirrorgui: ").rstrip("\n")

    return run_refused


# ``run``: values


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--sync", "full", "--granularity", "512", "--buf-size", "1M", "--speed", "1G"],
        ["--sync", "top", "--granularity", "64M", "--copy-mode", "write-blocking"],
        ["--granularity=4096", "--buf-size=0", "--speed=0", "--copy-mode=background"],
        ["--buf-size", "1", "--finish", "complete"],
        ["--finish", "cancel", "--source-format", "raw", "--target-format", "raw"],
        ["--on-source-error", "report", "--on-target-error", "ignore"],
        ["--on-source-error", "enospc", "--on-target-error", "stop"],
        ["--speed", "1.5G", "--buf-size", "1000k"],
    ],
)
def test_every_option_is_taken_and_the_copy_is_exact(
    source: Path, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "t.raw"
    before = source.read_bytes()
    assert inside("run", source, target, *options) == 0
    assert same(source, target)
    assert source.read_bytes() == before
    told = capsys.readouterr()
    assert told.out == ""
    assert last_line(told.err).startswith(("Completed:", "Finished without switching:"))


def test_sync_none_copies_nothing_by_itself(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.raw"
    assert inside("run", source, target, "--sync", "none") == 0
    assert target.stat().st_size == source.stat().st_size
    assert target.stat().st_blocks == 0


def test_an_empty_image_is_mirrored(tmp_path: Path) -> None:
    (tmp_path / "s.raw").touch()
    assert inside("run", tmp_path / "s.raw", tmp_path / "t.raw") == 0
    assert (tmp_path / "t.raw").stat().st_size == 0


BAD_VALUES = [
    (["--granularity", "1000"], "granularity: '1000': expects a power of 2"),
    (["--granularity", "256"], "granularity: '256': expects a value in range [512B, 64MB]"),
    (["--granularity", "128M"], "granularity: '128M': expects a value in range [512B, 64MB]"),
    (["--granularity", "-64K"], "granularity: '-64K': expects a value in range [512B, 64MB]"),
    (["--granularity", "64X"], "granularity: '64X': '64X' is not a size"),
    (["--granularity", ""], "granularity: '': '' is not a size"),
    (["--buf-size", "-1"], "buf-size: '-1': must not be negative"),
    (["--buf-size", "1.5"], "buf-size: '1.5': '1.5' is not a whole number of bytes"),
    (["--buf-size", "lots"], "buf-size: 'lots': 'lots' is not a size"),
    (["--speed", "-1"], "speed: '-1': expects a non-negative value"),
    (["--speed", "-1M"], "speed: '-1M': expects a non-negative value"),
    (["--speed=-2G"], "speed: '-2G': expects a non-negative value"),
    (["--speed", "10 MiB/s"], "speed: '10 MiB/s': '10 MiB/s' is not a size"),
    (["--speed", "1" * 5000], "speed: '111"),
    (["--sync", "half"], "sync: 'half': expected one of: full, top, none"),
    (["--sync", "FULL"], "sync: 'FULL': expected one of: full, top, none"),
    (["--copy-mode", "fast"], "copy-mode: 'fast': expected one of: background, write-blocking"),
    (
        ["--on-source-error", "retry"],
        "on-source-error: 'retry': expected one of: report, ignore, enospc, stop",
    ),
    (
        ["--on-target-error", "auto"],
        "on-target-error: 'auto': expected one of: report, ignore, enospc, stop",
    ),
    (["--finish", "now"], "finish: 'now': expected one of: wait, complete, cancel"),
    (["--source-format", "raww"], "source-format: 'raww': Unknown format; known are "),
    (["--target-format", "file"], "target-format: 'file': cannot be made; known are raw, qcow2,"),
    (["--mode", "new"], "mode: 'new': expected one of: existing, absolute-paths"),
    (["--target-options", "colour=red"], "target-options: 'colour': Unknown option; known are "),
    (["--target-options", "cluster_size=big"], "target-options: 'cluster_size=big': 'big' is not"),
    (["--target-options", "compat=2"], "target-options: 'compat=2': must be 0.10 or 1.1"),
    (["--target-options", "cluster_size=64K"], "cluster_size: '65536': is no option of raw images"),
    (["--target-options", "preallocation=metadata"], "preallocation: 'metadata': must be one of "),
    (
        ["--target-format", "qcow2", "--target-options", "cluster_size=3000"],
        "cluster_size: '3000': must be a power of two between 512 and 2097152 (2 MiB)",
    ),
    (
        ["--target-format", "qcow2", "--target-options", "compat=0.10,lazy_refcounts=on"],
        "lazy_refcounts: 'True': needs version 3",
    ),
    (
        ["--target-format", "qcow2", "--target-options", "backing_file=b.raw"],
        "backing_file: 'b.raw': the format of the backing file has to be named too",
    ),
]


@pytest.mark.parametrize(("options", "text"), BAD_VALUES)
def test_a_bad_value_is_refused_by_field_value_and_reason(
    source: Path, tmp_path: Path, refused: Callable[..., str], options: list[str], text: str
) -> None:
    assert refused(source, tmp_path / "t.raw", *options).startswith(text)


def test_a_target_that_is_not_there_is_refused_where_it_has_to_be(
    source: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    target = tmp_path / "t.raw"
    text = "There is no such image, and target mode existing does not make one."
    assert refused(source, target, "--mode", "existing") == f"target: '{target}': {text}"
    folder = tmp_path / "none" / "t.raw"
    assert "does not exist" in refused(source, folder, "--mode", "absolute-paths")


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://localhost/", "export: 'http://localhost/': "),
        ("nbd+unix:///x", "export: 'nbd+unix:///x': "),
        ("nbd://localhost:99999/x", "export: 'nbd://localhost:99999/x': "),
        ("s.raw", "export: 's.raw': "),
    ],
)
def test_a_bad_export_address_is_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], uri: str, text: str
) -> None:
    assert refused(source, tmp_path / "t.raw", "--export", uri).startswith(text)


def test_an_export_that_cannot_listen_is_refused_and_its_new_target_removed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"nbd+unix:///d?socket={tmp_path}/none/socket"
    assert inside("run", source, tmp_path / "t.raw", "--export", uri) == 2
    assert capsys.readouterr().err.startswith(f"mirrorgui: export: '{uri}': ")
    assert [path.name for path in tmp_path.iterdir()] == ["s.raw"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "a"],
        ["run", "a", "b", "c"],
        ["run", "a", "b", "--nonsense"],
        ["run", "a", "b", "--spee", "1"],
        ["run", "a", "b", "--speed"],
        ["run", "a", "b", "--overwrite=yes"],
        ["info"],
        ["info", "a", "--js"],
        ["compare", "a"],
        ["compare", "a", "b", "c"],
        ["mirror", "a", "b"],
    ],
)
def test_wrong_usage_ends_with_2_and_the_usage(
    tmp_path: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert inside(*arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("usage: mirrorgui")
    assert ": error: " in last_line(told.err)
    assert not list(tmp_path.iterdir())


# ``run``: images


def test_a_missing_source_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "none.raw"
    expected = f"source: '{path}': Cannot read {path}: No such file or directory."
    assert refused(path, tmp_path / "t.raw") == expected


@pytest.mark.parametrize("end", ["source", "target"])
def test_folders_pipes_sockets_and_character_devices_are_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], end: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        (tmp_path / "folder", "is a folder. Choose an image file or a device."),
        (tmp_path / "pipe", "is a pipe. Choose an image file or a block device."),
        ("/dev/null", "is a character device. Choose an image file or a block device."),
    ):
        images = (name, tmp_path / "t.raw") if end == "source" else (source, name)
        assert refused(*images, "--overwrite") == f"{end}: '{name}': {name} {words}"


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("name", ["", "gopher:x", "json:", "json:[]", "json:{", "json:{}"])
def test_names_that_lead_nowhere_are_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], end: str, name: str
) -> None:
    images = (name, tmp_path / "t.raw") if end == "source" else (source, name)
    assert refused(*images).startswith((f"{end}: ", f"{end}."))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"driver":"nonsense"}', "source.driver"),
        ('{"driver":"file","filename":"s.raw","nonsense":1}', "source.nonsense"),
        ('{"driver":"raw","size":-1,"file":{"driver":"file","filename":"s.raw"}}', "source.size"),
        ('{"driver":"raw"}', "source.file"),
        ('{"driver":"file"}', "source.filename"),
        ('{"driver":"file","filename":"a\\u0000b"}', "source"),
        ('{"driver":"blkdebug","image":{"driver":"file","filename":"s.raw"},'
         '"inject-error":[{"event":"nonsense"}]}', "event"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_node_are_refused_by_their_whole_name(
    source: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    text: str,
    field: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(f"json:{text}", tmp_path / "t.raw").startswith(field)


@pytest.mark.parametrize("end", ["source", "target"])
def test_what_nobody_may_read_or_write_is_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], end: str
) -> None:
    target = tmp_path / "t.raw"
    target.touch()
    os.truncate(target, source.stat().st_size)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    source.chmod(0o644)
    target.chmod(0o666)
    (source if end == "source" else target).chmod(0o000 if end == "source" else 0o444)
    before = fingerprint(tmp_path)
    with as_nobody():
        assert inside("run", source, target) == 2
    assert fingerprint(tmp_path) == before


def test_the_sentence_names_what_nobody_may_read(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    source.chmod(0)
    with as_nobody():
        assert inside("run", source, tmp_path / "t.raw") == 2
    expected = f"mirrorgui: source: '{source}': Cannot read {source}: Permission denied.\n"
    assert capsys.readouterr().err == expected


def test_a_new_target_in_a_folder_that_is_missing_or_closed_is_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none" / "t.raw"
    text = f"target: '{missing}': The folder {missing.parent} does not exist."
    assert refused(source, missing) == text
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with as_nobody():
        assert inside("run", source, tmp_path / "t.raw") == 2
    assert f"target: '{tmp_path}/t.raw': Cannot create " in capsys.readouterr().err
    assert not (tmp_path / "t.raw").exists()


@pytest.mark.parametrize("kind", ["path", "relative", "dotted", "symlink", "hard link", "json"])
def test_the_same_image_by_another_name_is_refused(
    source: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link"
    names = {
        "path": str(source),
        "relative": "s.raw",
        "dotted": f"../{tmp_path.name}/./s.raw",
        "symlink": str(link),
        "hard link": str(link),
        "json": json.dumps({"driver": "file", "filename": "s.raw"}),
    }
    if kind == "symlink":
        link.symlink_to("s.raw")
    elif kind == "hard link":
        link.hardlink_to(source)
    name = f"json:{names[kind]}" if kind == "json" else names[kind]
    expected = f"target: '{name}': Source and target are the same image."
    assert refused(source, name, "--overwrite") == expected


@pytest.mark.root
def test_the_same_image_behind_loop_devices_and_bind_mounts_is_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], loop_device: Callable[..., str]
) -> None:
    os.truncate(source, 4 * MiB)
    device = loop_device(source)
    assert "lies on" in refused(source, device, "--overwrite")
    assert "lies on" in refused(device, source, "--overwrite")
    assert "the same image" in refused(device, loop_device(source), "--overwrite")
    bound = tmp_path / "bound"
    bound.touch()
    run("mount", "--bind", source, bound)
    try:
        assert "the same image" in refused(source, bound, "--overwrite")
    finally:
        run("umount", bound)


def test_too_small_a_target_is_refused_with_the_exact_difference(
    source: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    target = tmp_path / "t.raw"
    target.touch()
    os.truncate(target, source.stat().st_size - 1)
    text = refused(source, target)
    assert text.startswith(f"target: '{target}': Target is 1 B too small (")


def test_a_target_with_content_needs_overwrite_and_the_sentence_says_so(
    source: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    target = tmp_path / "t.raw"
    target.write_bytes(b"x" * source.stat().st_size)
    text = refused(source, target)
    assert text.startswith(f"target: '{target}': Overwrite t.raw (")
    assert text.endswith("Its content will be lost. Use --overwrite to allow that.")
    assert inside("run", source, target, "--overwrite") == 0
    assert same(source, target)


def test_overwrite_allows_nothing_else(
    source: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    target = tmp_path / "t.raw"
    target.write_bytes(b"x")
    assert "too small" in refused(source, target, "--overwrite")


@pytest.mark.interop
@pytest.mark.parametrize("end", ["source", "target"])
def test_an_encrypted_image_without_its_key_is_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str], end: str
) -> None:
    image = luks_image(tmp_path / "image", 8 * MiB)
    images = (image, tmp_path / "t.raw") if end == "source" else (source, image)
    text = refused(*images, "--overwrite", "--target-format", "luks" if end == "target" else "raw")
    assert text.startswith(f"{end}: '{image}': It is encrypted: option key-file must name")


@pytest.mark.interop
@pytest.mark.parametrize("name", ["vmdk", "vdi", "vhdx"])
def test_other_formats_are_mirrored_both_ways(source: Path, tmp_path: Path, name: str) -> None:
    os.truncate(source, 4 * MiB)
    image, back = tmp_path / f"image.{name}", tmp_path / "back.qcow2"
    assert inside("run", source, image, "--source-format=raw", "--target-format", name) == 0
    run("qemu-img", "compare", "-f", "raw", "-F", name, source, image)
    assert inside("run", image, back, "--target-format", "qcow2") == 0
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, back)
    run("qemu-img", "check", back)


@pytest.mark.interop
def test_a_chain_is_mirrored_with_the_options_of_the_new_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, mid, top, target = (
        tmp_path / name for name in ("base.raw", "mid.qcow2", "top.qcow2", "t.qcow2")
    )
    base.write_bytes(stamped(4 * MiB))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", mid)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", mid, "-F", "qcow2", top)
    run("qemu-io", "-c", "write -P 3 1M 200k", top)
    options = "cluster_size=4K,lazy_refcounts=on"
    assert inside("run", top, target, "--sync", "top", "--target-options", options) == 0
    capsys.readouterr()
    info = json.loads(shown(capsys, target, "--json"))
    assert (info["cluster-size"], info["backing-filename"]) == (4096, str(mid))
    assert info["format-specific"]["data"]["lazy-refcounts"] is True
    run("qemu-img", "check", target)
    assert inside("compare", top, target, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"identical": True, "offset": None}
    assert inside("run", top, target, "--mode", "absolute-paths", "--sync", "top") == 2
    again = ("--mode", "absolute-paths", "--overwrite", "--target-format", "raw")
    assert inside("run", top, target, *again) == 0
    run("qemu-img", "compare", "-F", "raw", top, target)


@pytest.mark.interop
def test_any_image_can_be_mirrored_as_raw_bytes(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    image, target = tmp_path / "image", tmp_path / "t.raw"
    run("qemu-img", "create", "-f", "qcow2", image, "8M")
    assert mirrorgui("run", "--source-format", "raw", image, target).returncode == 0
    assert same(image, target)
    # An existing target whose format is guessed must not become another one by its content.
    blank = tmp_path / "blank.raw"
    blank.touch()
    os.truncate(blank, 1 * MiB)
    text = refused("--source-format", "raw", image, blank)
    assert "make it look like qcow2" in text
    assert "Name the target's format raw" in text
    assert inside("run", image, blank, "--source-format=raw", "--target-format=raw") == 0


@pytest.mark.interop
def test_images_that_qemu_has_open_are_refused(
    source: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    target, socket = tmp_path / "t.raw", tmp_path / "socket"
    target.touch()
    os.truncate(target, 4 * MiB)
    qemu = (
        *("qemu-storage-daemon", "--blockdev", f"driver=file,node-name=a,filename={target}"),
        *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
        *("--export", "type=nbd,id=e,node-name=a,writable=on"),
    )
    with background(*qemu, ready=socket.exists) as peer:
        holder = f"qemu-storage-daemon (pid {peer.pid})"
        text = refused(source, target, "--overwrite")
        assert text == f"target: '{target}': t.raw is open in {holder}."
        text = refused(target, tmp_path / "new.raw")
        assert text.startswith(f"source: '{target}': Open for writing by {holder}.")


@pytest.mark.root
def test_a_mounted_target_is_refused_and_a_mounted_source_is_warned_of(
    tmp_path: Path, loop_device: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    disk, folder = tmp_path / "disk.raw", tmp_path / "mnt"
    disk.touch()
    os.truncate(disk, 8 * MiB)
    run("mkfs.ext4", "-q", disk)
    device = loop_device(disk)
    other = tmp_path / "other.raw"
    other.write_bytes(stamped(8 * MiB))
    folder.mkdir()
    run("mount", device, folder)
    try:
        before = other.read_bytes()
        assert inside("run", other, device, "--overwrite") == 2
        assert inside("run", other, disk, "--overwrite") == 2
        told = capsys.readouterr().err
        assert told.count(f"mounted on {folder}") == 2
        assert other.read_bytes() == before
        assert inside("run", device, tmp_path / "copy.raw") == 0
        assert (
            f"mirrorgui: warning: source: {device} is mounted on {folder}"
            in capsys.readouterr().err
        )
    finally:
        run("umount", folder)
    run("e2fsck", "-fn", disk)


@pytest.mark.root
def test_a_swap_device_is_refused(
    source: Path, tmp_path: Path, loop_device: Callable[..., str], refused: Callable[..., str]
) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(4 * MiB))
    run("mkswap", disk)
    device = loop_device(disk)
    if run("swapon", device, check=False).returncode:
        pytest.skip("this kernel takes no more swap")
    try:
        assert "target: " in refused(source, device, "--overwrite")
    finally:
        run("swapoff", device)


# ``info``


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert inside("info", *arguments) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def of_qemu(path: Path | str) -> dict[str, object]:
    text = run("qemu-img", "info", "--output=json", "--force-share", path).stdout
    told: dict[str, object] = json.loads(text)
    return told


@pytest.mark.interop
def test_info_shows_what_an_encrypted_image_says_in_the_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = luks_image(tmp_path / "image", 8 * MiB)
    ours = shown(capsys, image).splitlines()
    theirs = run("qemu-img", "info", image).stdout.splitlines()
    assert sorted(ours[4:]) == sorted(theirs[4:])
    assert "encrypted: yes" in ours
    assert "    cipher alg: aes-256" in ours


@pytest.mark.interop
def test_info_is_what_qemu_img_says_of_raw_images(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = tmp_path / "sparse.raw"
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    for path in (source, sparse):
        ours, theirs = json.loads(shown(capsys, path, "--json")), of_qemu(path)
        assert ours.keys() <= theirs.keys()
        sectors = -(-path.stat().st_size // 512)  # which is what qemu-img counts in
        assert ours["virtual-size"] == path.stat().st_size
        assert theirs["virtual-size"] == sectors * 512
        for name in ("filename", "format", "actual-size"):
            assert ours[name] == theirs[name]


@pytest.mark.interop
@pytest.mark.root
def test_info_is_what_qemu_img_says_of_a_device(
    source: Path, loop_device: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(source, 4 * MiB)
    device = loop_device(source)
    ours, theirs = json.loads(shown(capsys, device, "--json")), of_qemu(device)
    for name in ("filename", "format", "virtual-size"):
        assert ours[name] == theirs[name]


@pytest.mark.interop
def test_info_is_what_qemu_img_says_of_a_backing_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, mid, top = (tmp_path / name for name in ("base.raw", "mid.qcow2", "top.qcow2"))
    run("qemu-img", "create", "-f", "raw", base, "3M")
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", mid)
    run("qemu-img", "create", "-f", "qcow2", "-o", "cluster_size=4k", "-F", "qcow2", "-b", mid, top)
    theirs = json.loads(run("qemu-img", "info", "--backing-chain", "--output=json", top).stdout)
    ours = json.loads(shown(capsys, top, "--json"))
    assert json.loads(shown(capsys, top, "--json", "--backing-chain")) == theirs
    for their in theirs:
        assert {**their, "backing-image": 0} == {**ours, "backing-image": 0}
        ours = ours.get("backing-image")
    assert ours is None


def test_info_for_people_has_a_block_for_each_image(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = source.stat().st_size
    lines = shown(capsys, source).splitlines()
    assert lines[:3] == [
        f"image: {source}",
        "file format: raw",
        f"virtual size: 3.1 MiB ({size} bytes)",
    ]
    assert lines[3].startswith("disk size: ")
    top = tmp_path / "top.qcow2"
    run("qemu-img", "create", "-u", "-f", "qcow2", "-F", "raw", "-b", "gone.raw", top, "5M")
    text = shown(capsys, top)
    assert "cluster_size: 65536\n" in text
    assert f"backing file: gone.raw (actual path: {tmp_path}/gone.raw)\n" in text
    assert "backing file format: raw\n" in text
    assert "    lazy refcounts: false\n" in text
    assert "backing file cannot be read: Cannot read" in text
    run("qemu-img", "rebase", "-u", "-F", "raw", "-b", source, top)
    assert shown(capsys, top).count("\n\nimage: ") == 1


def test_info_takes_the_format_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = tmp_path / "top.qcow2"
    run("qemu-img", "create", "-f", "qcow2", top, "5M")
    told = json.loads(shown(capsys, top, "--format", "raw", "--json"))
    assert (told["format"], told["virtual-size"]) == ("raw", top.stat().st_size)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_info_of_nothing_is_refused(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none"
    assert inside("info", path, *more) == 2
    told = capsys.readouterr()
    text = f"mirrorgui: image: '{path}': Cannot read {path}: No such file or directory.\n"
    assert (told.out, told.err) == ("", text)


# ``compare``


def change(path: Path, offset: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1) or b"\0"
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0x55]))


def copy_of(path: Path, name: str) -> Path:
    other = path.parent / name
    run("cp", "--sparse=always", path, other)
    return other


@pytest.mark.interop
@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize("kind", ["same", "zeroes for holes", "last byte", "in a hole", "longer"])
def test_compare_ends_and_speaks_as_qemu_img(
    source: Path, kind: str, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(source, 4 * MiB)  # whole sectors: qemu-img sees no others
    other = copy_of(source, "other.raw")
    offset = {"last byte": 4 * MiB - 1, "in a hole": 2 * MiB + 5}.get(kind)
    if kind == "zeroes for holes":
        run("cp", "--sparse=never", source, other)
    elif kind == "longer":
        os.truncate(other, 5 * MiB)
    elif offset is not None:
        change(other, offset)
    theirs = run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, other, check=False)
    ours = inside("compare", source, other, *more)
    told = capsys.readouterr()
    assert ours == theirs.returncode == (0 if offset is None else 1)
    assert told.err == ""
    if more:
        assert json.loads(told.out) == {"identical": offset is None, "offset": offset}
    elif offset is None:
        assert told.out == "Images are identical.\n"
        assert theirs.stdout.endswith(told.out)
    else:
        assert told.out == f"Content mismatch at offset {offset}!\n"


def test_compare_strictly_takes_lengths_for_content(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_of(source, "other.raw")
    os.truncate(other, 5 * MiB)
    assert inside("compare", "--strict", source, other) == 1
    assert f"offset {source.stat().st_size}" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["a", "b"])
def test_compare_with_nothing_ends_with_2(
    source: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [source, source]
    images["ab".index(field)] = Path("none")
    text = f"{field}: 'none': Cannot read none: No such file or directory."
    assert inside("compare", *images) == 2
    assert capsys.readouterr().err == f"mirrorgui: {text}\n"
    assert inside("compare", *images, "--json") == 2
    assert json.loads(capsys.readouterr().out) == {"identical": None, "error": text}


def test_compare_with_a_read_error_ends_with_2(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = blkdebug(source, {"event": "read_aio", "sector": 100})
    assert inside("compare", source, broken) == 2
    assert "Input/output error" in capsys.readouterr().err


# The streams


def test_a_reader_that_goes_away_does_not_end_the_mirror(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.raw"
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        command("run", "--json", source, target),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writer)
    assert ended.returncode == 0
    assert ended.stderr.count("nobody reads stdout any more") == 1
    assert same(source, target)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_and_full_streams_do_not_end_or_damage_the_mirror(
    source: Path, tmp_path: Path, closed: str
) -> None:
    target = tmp_path / "t.raw"
    script = f'exec "$@" {closed}'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *command("run", "--json", source, target)],
        capture_output=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0
    assert same(source, target)


@pytest.mark.parametrize(("word", "status"), [("info", 1), ("compare", 2)])
def test_what_cannot_be_told_is_an_error(source: Path, word: str, status: int) -> None:
    images = [source] if word == "info" else [source, source]
    with Path("/dev/full").open("w") as full:
        ended = mirrorgui(word, *images, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == status
    assert ended.stderr == "mirrorgui: Cannot write to stdout: No space left on device\n"


def test_names_that_are_no_text_are_told_as_they_are(source: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/a\xff\n.raw"
    os.link(source, name)
    told = subprocess.run(
        [*command("info"), name], capture_output=True, env=environment(), check=True, timeout=30
    )
    assert told.stdout.startswith(b"image: " + name + b"\n")


# What is loaded


def modules_of(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """Carry out the command in an interpreter that tells what it has loaded."""
    script = (
        "import sys\n"
        "from mirrorgui.__main__ import main\n"
        "try:\n    status = main()\nexcept SystemExit as end:\n    status = end.code\n"
        "print('\\0' + ' '.join(sys.modules))\nsys.exit(status)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, set(ended.stdout.rpartition("\0")[2].split())


@pytest.mark.parametrize("arguments", HEADLESS_SETS)
def test_no_headless_command_loads_qt(
    source: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    status, modules = modules_of(tmp_path, *arguments)
    assert status == 0
    roots = {name.partition(".")[0] for name in modules}
    assert not roots & {"PySide6", "shiboken6", "pyqtgraph", "qasync", "jeepney"}
    if arguments != ("run", "s.raw", "t.raw"):
        assert not roots & {"asyncio", "numpy"}
    assert "mirrorgui.nbd.uri" not in modules
