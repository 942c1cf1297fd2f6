"""The options of a new target, by the words of ``qemu-img create -o``."""

import pytest

from mirrorgui.block.creation import TargetCreation, parse_creation
from mirrorgui.block.naming import Named
from mirrorgui.errors import InvalidInput
from mirrorgui.units import KiB, MiB


@pytest.mark.parametrize(
    ("text", "creation"),
    [
        ("", TargetCreation()),
        ("cluster_size=64K,compat=1.1", TargetCreation(cluster_size=64 * KiB, version=3)),
        ("compat=v2,preallocation=off", TargetCreation(version=2, preallocation="off")),
        (
            "lazy_refcounts=on,refcount_bits=1,extended_l2=off",
            TargetCreation(lazy_refcounts=True, refcount_bits=1, extended_l2=False),
        ),
        (
            "lazy_refcounts,cluster_size=2M",
            TargetCreation(lazy_refcounts=True, cluster_size=2 * MiB),
        ),
        (
            "backing_file=a,,b=c.raw,backing_fmt=raw",
            TargetCreation(backing_file="a,b=c.raw", backing_format="raw"),
        ),
        (
            "data_file=d.raw,data_file_raw=yes,compression_type=zstd",
            TargetCreation(data_file="d.raw", data_file_raw=True, compression_type="zstd"),
        ),
        ("cluster_size=4k,cluster_size=8k,", TargetCreation(cluster_size=8 * KiB)),
    ],
)
def test_options_are_read_as_qemu_img_reads_them(text: str, creation: TargetCreation) -> None:
    assert parse_creation(text) == creation


@pytest.mark.parametrize(
    ("text", "value", "reason"),
    [
        ("size=1G", "size", "Unknown option; known are preallocation, cluster_size"),
        ("encryption=on", "encryption", "Unknown option"),
        ("cluster_size=", "cluster_size=", "'' is not a size"),
        ("cluster_size", "cluster_size=on", "'on' is not a size"),
        ("compat=1.0", "compat=1.0", "must be 0.10 or 1.1"),
        ("lazy_refcounts=maybe", "lazy_refcounts=maybe", "must be on or off"),
        ("refcount_bits=-1", "refcount_bits=-1", "must be a number"),
        ("=x", "", "Unknown option"),
    ],
)
def test_a_wrong_option_is_refused(text: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_creation(text)
    assert (caught.value.field, caught.value.value) == ("target-options", value)
    assert caught.value.reason.startswith(reason)


def test_what_is_not_asked_for_is_left_to_the_format() -> None:
    options = TargetCreation(cluster_size=512).for_qcow2(Named("/base.raw", "raw"))
    assert (options.cluster_size, options.version, options.refcount_bits) == (512, 3, 16)
    assert (options.backing_file, options.backing_format) == ("/base.raw", "raw")


def test_a_backing_file_that_was_asked_for_goes_before_that_of_the_sync_mode() -> None:
    creation = TargetCreation(backing_file="other.raw", backing_format="raw")
    assert creation.for_qcow2(Named("/base.qcow2", "qcow2")).backing_file == "other.raw"
    assert TargetCreation(backing_file="").for_qcow2(Named("/b", "raw")).backing_file == ""
