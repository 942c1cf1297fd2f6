import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrorgui.block.blkdebug import BlkdebugNode
from mirrorgui.block.file import FileNode
from mirrorgui.block.memory import MemoryNode
from mirrorgui.block.node import BlockNode
from mirrorgui.block.open import How, open_image, probe
from mirrorgui.block.raw import ProbedRawGuard, RawNode
from mirrorgui.errors import BlockIOError, ImageRefused, InvalidInput
from tests.block.conftest import open_descriptors, run, stamped


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(stamped(8192))
    return path


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-f", "qcow2", path, "1M")
    return path


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> object:
    before = open_descriptors()
    yield
    assert open_descriptors() == before


def opened(spec: object, **options: object) -> BlockNode:
    node = open_image(spec, **options)
    node.close()
    return node


def content(node: BlockNode) -> bytes:
    buffer = bytearray(node.size)
    node.read_into(0, buffer)
    return bytes(buffer)


def refusal(spec: object, **options: object) -> InvalidInput:
    before = open_descriptors()
    with pytest.raises(InvalidInput) as caught:
        open_image(spec, **options)
    assert open_descriptors() == before
    return caught.value


def test_a_path_is_probed_and_a_guessed_raw_image_is_guarded(image: Path) -> None:
    node = opened(str(image))
    assert isinstance(node, ProbedRawGuard)
    assert (node.driver, node.size, node.name) == ("raw", 8192, str(image))


def test_with_the_format_named_the_file_itself_is_the_node(image: Path) -> None:
    node = opened(image, format="raw", node_name="disk")
    assert isinstance(node, FileNode)
    assert (node.driver, node.node_name, node.read_only) == ("raw", "disk", False)


def test_a_guessed_raw_image_that_is_read_only_needs_no_guard(image: Path) -> None:
    node = opened(image, how=How(read_only=True))
    assert isinstance(node, FileNode)
    assert node.read_only


@pytest.mark.parametrize("prefix", ["file:", "file://"])
def test_a_file_prefix_is_taken_off(image: Path, prefix: str) -> None:
    assert opened(f"{prefix}{image}").name == str(image)


def test_a_path_with_a_colon_is_a_protocol_unless_it_is_a_path_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b").write_bytes(bytes(512))
    assert refusal("a:b").reason == "Unknown protocol 'a'. For a file of that name write ./a:b"
    assert opened("./a:b").size == 512
    assert opened(Path("a:b")).size == 512


@pytest.mark.parametrize("uri", ["nbd://host/x", "nbd+unix:///x?socket=/s", "nbds://h", "nbd:h:1"])
def test_an_nbd_uri_is_not_a_file(uri: str) -> None:
    assert str(refusal(uri).value).removesuffix("/") == uri


def test_a_known_format_is_never_taken_for_raw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vdi = tmp_path / "image.vdi"
    run("qemu-img", "create", "-f", "vdi", vdi, "1M")
    monkeypatch.setenv("PATH", str(tmp_path))
    caught = refusal(vdi, how=How("source"))
    assert isinstance(caught, ImageRefused)
    assert (caught.field, caught.value) == ("source", str(vdi))
    assert caught.reason == (
        "VDI images are opened through qemu-nbd, which is not installed. "
        "The package qemu-utils brings it."
    )


def test_any_image_opens_as_raw_when_that_is_named(qcow2: Path) -> None:
    node = opened(qcow2, format="raw")
    assert isinstance(node, FileNode)
    assert node.size == qcow2.stat().st_size


def test_an_unknown_format_is_refused_with_the_known_ones(image: Path) -> None:
    caught = refusal(image, format="bogus", how=How("target"))
    assert (caught.field, caught.value) == ("target-format", "bogus")
    assert "raw" in caught.reason
    assert refusal(image, format="file").field == "filename-format"


def test_missing_directory_and_empty_names_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none", how=How("source")).field == "source"
    assert "is a folder" in refusal(str(tmp_path)).reason
    assert refusal("").reason == "The name of the image is empty."


def test_json_options_are_those_of_blockdev_add(image: Path) -> None:
    tree = {
        "driver": "raw",
        "node-name": "fmt",
        "read-only": True,
        "offset": 512,
        "size": "1K",
        "file": {"driver": "file", "filename": str(image), "node-name": "proto"},
    }
    for spec in (tree, f"json:{json.dumps(tree)}"):
        node = open_image(spec)
        assert isinstance(node, RawNode)
        assert (node.node_name, node.child.node_name) == ("fmt", "proto")
        assert node.read_only
        assert node.child.read_only
        assert content(node) == stamped(8192)[512:1536]
        node.close()


def test_dotted_keys_are_nested_options(image: Path) -> None:
    spec = {"driver": "raw", "file.driver": "file", "file.filename": str(image)}
    assert opened(f"json:{json.dumps(spec)}").size == 8192


def test_a_filename_alone_is_a_file_of_any_format(image: Path, qcow2: Path) -> None:
    assert isinstance(opened({"filename": str(image)}), ProbedRawGuard)
    assert isinstance(opened({"file": {"filename": str(image)}}), ProbedRawGuard)


def test_the_file_driver_alone_is_the_protocol_node(image: Path) -> None:
    node = opened({"driver": "file", "filename": str(image)})
    assert isinstance(node, FileNode)
    assert node.driver == "file"


def test_a_format_goes_on_top_of_a_protocol_node(image: Path) -> None:
    spec = {"driver": "file", "filename": str(image)}
    assert opened(spec, format="raw").driver == "raw"
    caught = refusal({"driver": "raw", "file": spec}, format="qcow2")
    assert caught.reason == "the options say driver raw"


def test_a_blkdebug_node_injects_what_its_options_say(image: Path) -> None:
    spec = {
        "driver": "blkdebug",
        "align": 4096,
        "image": {"driver": "file", "filename": str(image)},
        "inject-error": [{"event": "read_aio", "sector": 2, "errno": 28}],
    }
    node = open_image(f"json:{json.dumps(spec)}")
    assert isinstance(node, BlkdebugNode)
    assert node.limits.request_alignment == 4096
    node.read_into(0, bytearray(1024))
    with pytest.raises(BlockIOError) as caught:
        node.read_into(1024, bytearray(512))
    assert caught.value.errno == errno.ENOSPC
    node.close()


def test_a_null_node_has_a_size_and_no_bytes() -> None:
    node = opened({"driver": "null-co", "size": "1M", "read-zeroes": True})
    assert (node.driver, node.size, content(node)) == ("null-co", 1 << 20, bytes(1 << 20))


def test_a_child_by_node_name_stays_open_when_the_parent_closes() -> None:
    below = MemoryNode(stamped(4096), node_name="below")
    node = open_image(
        {"driver": "raw", "file": "below", "size": 1024}, how=How(nodes={"below": below})
    )
    assert content(node) == stamped(4096)[:1024]
    node.close()
    assert below.content() == stamped(4096)
    assert refusal({"driver": "raw", "file": "gone"}).reason == (
        "Cannot find device='' nor node-name='gone'"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bogus": 1}, "source.bogus"),
        ({"driver": "bogus"}, "source.driver"),
        ({"driver": 5}, "source.driver"),
        ({"offset": -1}, "source.offset"),
        ({"offset": 9000}, "source.offset"),
        ({"offset": 4096, "size": 4097}, "source.size"),
        ({"size": "many"}, "source.size"),
        ({"read-only": "yes"}, "source.read-only"),
        ({"discard": "maybe"}, "source.discard"),
        ({"detect-zeroes": "maybe"}, "source.detect-zeroes"),
        ({"cache": {"direct": True}}, "source.cache.direct"),
        ({"cache": {"bogus": True}}, "source.cache.bogus"),
        ({"force-share": True}, "source.force-share"),
        ({"file": 7}, "source.file"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(
    image: Path, change: dict[str, object], field: str
) -> None:
    spec = {"driver": "raw", "file": {"driver": "file", "filename": str(image)}, **change}
    assert refusal(spec, how=How("source")).field == field


@pytest.mark.parametrize(
    "text", ["json:", "json:[]", "json:{", 'json:{"a":1,"a":2}', 'json:{"a":1,"a.b":2}']
)
def test_json_that_is_no_options_is_refused(text: str) -> None:
    assert refusal(text, how=How("source")).field == "source"


def test_a_missing_filename_is_refused() -> None:
    assert refusal({"driver": "file"}).reason == "Parameter 'filename' is missing"
    assert refusal({"driver": "raw"}).reason == "Parameter 'file' is missing"
    assert refusal({}).reason == "Parameter 'file' is missing"


def test_auto_read_only_falls_back(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def unwritable(path: object, flags: int, *rest: int) -> int:
        if path == str(image) and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", unwritable)
    spec = {"driver": "file", "filename": str(image)}
    assert "for writing: Permission denied" in refusal(spec).reason
    assert opened({**spec, "auto-read-only": True}).read_only


def test_discard_ignore_keeps_the_storage(image: Path) -> None:
    image.write_bytes(stamped(1 << 20))
    node = open_image(image, format="raw")
    node.close()
    spec = {"driver": "raw", "discard": "ignore", "file": {"filename": str(image)}}
    node = open_image(spec)
    node.discard(0, 1 << 20)
    assert content(node) == stamped(1 << 20)
    node.write_zeroes(0, 1 << 20)
    node.flush()
    assert image.stat().st_blocks * 512 >= 1 << 20
    node.close()


def test_detect_zeroes_unmap_turns_written_zeroes_into_holes(image: Path) -> None:
    image.write_bytes(stamped(1 << 20))
    spec = {"driver": "raw", "detect-zeroes": "unmap", "file": {"filename": str(image)}}
    node = open_image(spec)
    node.write(0, bytes(1 << 20))
    node.flush()
    assert image.stat().st_blocks == 0
    node.write(0, stamped(4096))
    assert content(node)[:4096] == stamped(4096)
    node.close()


def test_no_flush_forgets_flushes(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda fd: pytest.fail("flushed"))
    node = open_image(
        {"driver": "raw", "cache": {"no-flush": True}, "file": {"filename": str(image)}}
    )
    node.flush()
    node.close()


def test_the_guard_refuses_what_would_look_like_another_format(image: Path) -> None:
    node = open_image(image)
    with pytest.raises(BlockIOError) as caught:
        node.write(0, b"QFI\xfb\0\0\0\3" + bytes(504))
    assert caught.value.errno == errno.EPERM
    assert "name the format raw to allow it" in str(caught.value)
    assert content(node) == stamped(8192)
    node.write(0, b"QFI")  # not yet
    with pytest.raises(BlockIOError):
        node.write(3, b"\xfb\0\0\0\3")  # completes it
    node.write(512, b"QFI\xfb\0\0\0\3")  # not in the first sector
    node.close()


def test_with_the_format_named_any_bytes_may_be_written(image: Path) -> None:
    node = open_image(image, format="raw")
    node.write(0, b"QFI\xfb\0\0\0\3" + bytes(504))
    node.close()
    assert probe(image) == "qcow2"


def test_probing_sees_below_json_and_takes_no_lock(image: Path, qcow2: Path) -> None:
    node = FileNode(image)
    assert probe(image) == "raw"
    node.close()
    assert probe(f"json:{json.dumps({'file': {'filename': str(qcow2)}})}") == "qcow2"
    assert probe({"driver": "vdi", "file": {"filename": str(image)}}) == "vdi"


@pytest.mark.root
def test_a_device_is_a_host_device_and_not_a_file(
    image: Path, loop_device: Callable[..., str]
) -> None:
    device = loop_device(image)
    node = open_image(device)
    assert isinstance(node, ProbedRawGuard)
    assert isinstance(node.child, FileNode)
    assert node.child.is_device
    node.close()
    opened({"driver": "host_device", "filename": device})
    assert "to be a regular file" in refusal({"driver": "file", "filename": device}).reason
    spec = {"driver": "host_device", "filename": str(image)}
    assert "to be a block device" in refusal(spec).reason


def test_an_image_that_cannot_be_read_is_refused(image: Path) -> None:
    spec = {
        "driver": "blkdebug",
        "image": {"driver": "file", "filename": str(image)},
        "inject-error": [{"event": "read_aio"}],
    }
    caught = refusal({"file": spec}, how=How("source"))
    assert isinstance(caught, ImageRefused)
    assert caught.reason == f"Cannot read {image}: Input/output error."


def test_a_format_goes_on_top_of_a_filename(image: Path) -> None:
    assert isinstance(opened({"filename": str(image)}, format="raw"), FileNode)


def test_a_refused_format_names_the_file(image: Path) -> None:
    assert refusal({"driver": "vdi", "file": {"filename": str(image)}}).value == str(image)


def test_probing_a_node_by_name_is_refused() -> None:
    with pytest.raises(InvalidInput):
        probe({"file": "some-node"})


@pytest.mark.parametrize("depth", [33, 300, 5000])
def test_options_nested_too_deeply_are_refused(image: Path, depth: int) -> None:
    tree: dict[str, object] = {"driver": "file", "filename": str(image)}
    for _ in range(depth):
        tree = {"driver": "raw", "file": tree}
    assert "nested" in refusal(tree).reason
    text = "json:" + '{"driver":"raw","file":' * depth + "{}" + "}" * depth
    assert refusal(text).field.startswith("filename")


def test_options_may_be_nested_some_levels(image: Path) -> None:
    tree: dict[str, object] = {"driver": "file", "filename": str(image)}
    for _ in range(32):
        tree = {"driver": "raw", "file": tree}
    assert opened(tree).size == 8192
