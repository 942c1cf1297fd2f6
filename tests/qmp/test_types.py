from typing import Any

import pytest

from mirrorgui.qmp.dispatch import check_arguments
from mirrorgui.qmp.errors import QmpError

MIRROR = {"device": "a", "target": "b", "sync": "full"}


def refusal(name: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(QmpError) as caught:
        check_arguments(name, arguments)
    return caught.value.desc


def test_defaults_are_filled_in() -> None:
    checked = check_arguments("blockdev-mirror", MIRROR)
    assert checked["on-source-error"] == "report"
    assert checked["auto-finalize"] is True
    assert "job-id" not in checked


def test_members_of_a_tree_stay_as_given() -> None:
    tree = {"driver": "raw", "file": {"driver": "file", "filename": "x"}, "node-name": "n"}
    assert check_arguments("blockdev-add", tree) == tree


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("blockdev-mirror", {"sync": 5, "zz": 1}, "Parameter 'device' is missing"),
        (
            "blockdev-mirror",
            MIRROR | {"sync": "bogus"},
            "Parameter 'sync' does not accept value 'bogus'",
        ),
        (
            "blockdev-mirror",
            MIRROR | {"sync": 5},
            "Invalid parameter type for 'sync', expected: string",
        ),
        (
            "blockdev-mirror",
            MIRROR | {"granularity": -1},
            "Parameter 'granularity' expects uint32_t",
        ),
        (
            "blockdev-mirror",
            MIRROR | {"granularity": 1.0},
            "Parameter 'granularity' expects uint64",
        ),
        (
            "blockdev-mirror",
            MIRROR | {"speed": 1 << 63},
            "Invalid parameter type for 'speed', expected: integer",
        ),
        (
            "blockdev-mirror",
            MIRROR | {"auto-dismiss": 1},
            "Invalid parameter type for 'auto-dismiss', expected: boolean",
        ),
        ("query-version", {"x": 1}, "Parameter 'x' is unexpected"),
        (
            "blockdev-add",
            {"driver": "raw", "file": 5},
            "Invalid parameter type for 'file', expected: BlockdevRef",
        ),
        (
            "blockdev-add",
            {"driver": "raw", "file": {"driver": "file"}},
            "Parameter 'file.filename' is missing",
        ),
        (
            "blockdev-add",
            {"driver": "blkdebug", "image": "x", "inject-error": [{"event": "none"}, {}]},
            "Parameter 'inject-error[1].event' is missing",
        ),
        (
            "blockdev-add",
            {"driver": "nbd", "server": {"type": "inet", "host": "", "port": "", "to": 70000}},
            "Parameter 'to' expects uint16_t",
        ),
        (
            "qmp_capabilities",
            {"enable": ["x"]},
            "Parameter 'null' does not accept value 'x'",
        ),
        (
            "block-export-add",
            {"type": "nbd", "id": "x", "node-name": "n", "bitmaps": [5]},
            "Invalid parameter type for 'null', expected: BlockDirtyBitmapOrStr",
        ),
    ],
)
def test_the_first_mistake_is_named_as_qemu_names_it(
    name: str, arguments: dict[str, Any], text: str
) -> None:
    assert refusal(name, arguments) == text


def test_null_is_a_backing_node_of_its_own() -> None:
    tree = {"driver": "qcow2", "file": "f", "backing": None}
    assert check_arguments("blockdev-add", tree) == tree
