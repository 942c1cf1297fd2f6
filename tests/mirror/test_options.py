"""Arguments: S17 and the defaults."""

import pytest

from mirrorgui.errors import InvalidInput
from mirrorgui.mirror.options import (
    CopyMode,
    ErrorPolicy,
    MirrorOptions,
    SyncMode,
    choice,
    effective_buf_size,
    effective_granularity,
    operation_cap,
)
from mirrorgui.units import KiB, MiB


@pytest.mark.parametrize(
    ("field", "name", "value", "reason"),
    [
        ("granularity", "granularity", 256, "expects a value in range [512B, 64MB]"),
        ("granularity", "granularity", -512, "expects a value in range [512B, 64MB]"),
        ("granularity", "granularity", 128 * MiB, "expects a value in range [512B, 64MB]"),
        ("granularity", "granularity", 1536, "expects a power of 2"),
        ("buf-size", "buf_size", -1, "must not be negative"),
        ("speed", "speed", -1, "expects a non-negative value"),
        ("copy-threads", "copy_threads", -1, "must not be negative"),
        ("job-id", "job_id", "", "Invalid job ID"),
        ("job-id", "job_id", "1a", "Invalid job ID"),
        ("job-id", "job_id", "a b", "Invalid job ID"),
        ("job-id", "job_id", "a\n", "Invalid job ID"),
    ],
)
def test_s17_bad_arguments_are_refused_by_name_value_and_reason(
    field: str, name: str, value: object, reason: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        MirrorOptions(**{name: value})
    assert (caught.value.field, caught.value.value, caught.value.reason) == (field, value, reason)


@pytest.mark.parametrize("kind", [SyncMode, CopyMode, ErrorPolicy])
def test_s17_bad_choices_are_refused_with_what_there_is(kind: type) -> None:
    with pytest.raises(InvalidInput) as caught:
        choice(kind, "field", "bogus")
    assert caught.value.field == "field"
    for member in kind:
        assert member.value in caught.value.reason
        assert choice(kind, "field", member.value) is member


@pytest.mark.parametrize("job_id", ["a", "drive-virtio0.1_x", "Z9"])
@pytest.mark.parametrize("granularity", [0, 512, 64 * MiB])
def test_good_arguments_are_taken(job_id: str, granularity: int) -> None:
    assert MirrorOptions(job_id=job_id, granularity=granularity).granularity == granularity


@pytest.mark.parametrize(
    ("cluster", "granularity"),
    [(0, 64 * KiB), (512, 4 * KiB), (4 * KiB, 4 * KiB), (32 * KiB, 32 * KiB), (MiB, 64 * KiB)],
)
def test_the_default_granularity_follows_the_targets_clusters(
    cluster: int, granularity: int
) -> None:
    assert effective_granularity(0, cluster) == granularity
    assert effective_granularity(512, cluster) == 512


def test_the_buffer_is_16_mib_or_what_was_asked_in_whole_chunks() -> None:
    assert effective_buf_size(0, 64 * KiB) == 16 * MiB
    assert effective_buf_size(1, 64 * KiB) == 64 * KiB
    assert effective_buf_size(65537, 64 * KiB) == 128 * KiB
    assert effective_buf_size(0, 64 * MiB) == 64 * MiB


@pytest.mark.parametrize(
    ("buf", "granularity", "cap"),
    [
        (16 * MiB, 64 * KiB, MiB),
        (64 * MiB, 64 * KiB, 4 * MiB),
        (64 * KiB, 64 * KiB, 64 * KiB),
        (512 * KiB, 4 * KiB, 512 * KiB),
        (64 * MiB, 64 * MiB, 64 * MiB),
    ],
)
def test_an_operation_is_a_sixteenth_of_the_buffer_or_1_mib(
    buf: int, granularity: int, cap: int
) -> None:
    assert operation_cap(buf, granularity) == cap
