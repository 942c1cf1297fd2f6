"""Which part of a chunk is copied again: no more than was written, and never less."""

from dataclasses import replace

import pytest

from mirrorgui.block.memory import MemoryNode
from mirrorgui.mirror.options import CopyMode, ErrorPolicy
from mirrorgui.mirror.parts import PART, PartBitmap
from mirrorgui.units import KiB, MiB
from tests.mirror.harness import CHUNK, mirroring, pattern

SIZE = 4 * MiB + 1000
WHOLE = (0, CHUNK)


def take(bitmap: PartBitmap, offset: int, length: int) -> tuple[int, int]:
    (span,) = bitmap.take([(offset, length)])
    return span


@pytest.fixture
def bitmap() -> PartBitmap:
    """A bitmap of which the first four chunks have been copied."""
    bitmap = PartBitmap(SIZE, CHUNK)
    bitmap.mark(0, 4 * CHUNK)
    assert take(bitmap, 0, 4 * CHUNK) == (0, 4 * CHUNK)
    return bitmap


def test_a_chunk_that_was_never_copied_is_copied_whole():
    bitmap = PartBitmap(SIZE, CHUNK)
    assert bitmap.mark(CHUNK + 5, 1) == CHUNK
    assert take(bitmap, CHUNK, CHUNK) == (CHUNK, CHUNK)


def test_a_copied_chunk_is_copied_from_its_first_written_part_to_its_last(bitmap):
    bitmap.mark(9 * KiB, 1)
    bitmap.mark(30 * KiB, 3 * KiB)
    assert bitmap.dirty_bytes == CHUNK
    assert take(bitmap, *WHOLE) == (8 * KiB, 28 * KiB)
    assert take(bitmap, *WHOLE) == (0, 0)


def test_a_chunk_that_is_marked_whole_is_copied_whole(bitmap):
    bitmap.mark(*WHOLE)
    bitmap.mark(5 * KiB, 1)
    assert take(bitmap, *WHOLE) == WHOLE
    assert take(bitmap, *WHOLE) == (0, 0)


def test_a_long_mark_leaves_the_chunks_at_its_ends_in_parts(bitmap):
    bitmap.mark(CHUNK - PART, 2 * CHUNK + 2 * PART)
    assert take(bitmap, *WHOLE) == (CHUNK - PART, PART)
    assert take(bitmap, CHUNK, CHUNK) == (CHUNK, CHUNK)
    assert take(bitmap, 2 * CHUNK, CHUNK) == (2 * CHUNK, CHUNK)
    assert take(bitmap, 3 * CHUNK, CHUNK) == (3 * CHUNK, PART)


def test_several_chunks_are_copied_whole_when_one_of_them_must_be(bitmap):
    bitmap.mark(3 * CHUNK, 10)
    bitmap.mark(4 * CHUNK, 10)
    assert take(bitmap, 3 * CHUNK, 2 * CHUNK) == (3 * CHUNK, 2 * CHUNK)
    bitmap.mark(3 * CHUNK, 10)
    bitmap.mark(4 * CHUNK, 10)
    assert take(bitmap, 3 * CHUNK, 2 * CHUNK) == (3 * CHUNK, CHUNK + PART)


def test_a_failure_marks_all_and_a_later_mark_of_a_byte_copies_all(bitmap):
    bitmap.mark(PART, 1)
    take(bitmap, *WHOLE)
    bitmap.mark(*WHOLE)  # it failed
    bitmap.clear(*WHOLE)  # and is put aside
    bitmap.mark(0, 1)
    assert take(bitmap, *WHOLE) == WHOLE


def test_several_ranges_are_taken_at_once(bitmap):
    bitmap.mark(PART, 1)
    bitmap.mark(2 * CHUNK, CHUNK)
    bitmap.mark(5 * CHUNK, 1)
    spans = bitmap.take([WHOLE, (2 * CHUNK, CHUNK), (3 * CHUNK, CHUNK), (5 * CHUNK, CHUNK)])
    assert spans == [(PART, PART), (2 * CHUNK, CHUNK), (3 * CHUNK, 0), (5 * CHUNK, CHUNK)]
    assert bitmap.is_clean


def test_the_last_part_ends_with_the_image():
    bitmap = PartBitmap(SIZE, CHUNK)
    tail = (4 * MiB, 1000)
    bitmap.mark(*tail)
    assert take(bitmap, *tail) == tail
    bitmap.mark(4 * MiB + 999, 1)
    assert take(bitmap, *tail) == tail


def test_parts_as_large_as_chunks_are_not_kept():
    bitmap = PartBitmap(SIZE, PART)
    bitmap.mark(0, PART)
    assert take(bitmap, 0, PART) == (0, PART)
    bitmap.mark(5, 1)
    assert take(bitmap, 0, PART) == (0, PART)


# In a job


@pytest.mark.asyncio
async def test_a_job_copies_what_was_written_of_a_chunk_that_it_has_copied():
    async with mirroring(pattern(4 * CHUNK)) as mirror:
        await mirror.ready()
        mirror.target.probe.forget()
        before = mirror.check()
        await mirror.write(CHUNK + 5 * KiB, b"new")
        after = await mirror.settled()
        (written,) = mirror.target.probe.of("write")
        assert (written.offset, written.length) == (CHUNK + PART, PART)
        assert after.offset - before.offset == CHUNK, "counted in chunks"
        assert after.copied_bytes - before.copied_bytes == PART
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_job_copies_the_whole_chunk_after_a_failure():
    policy = ErrorPolicy.STOP
    async with mirroring(pattern(4 * CHUNK), on_target_error=policy) as mirror:
        await mirror.ready()
        mirror.target.fail("write", once=True)
        await mirror.write(CHUNK + 5 * KiB, b"new")
        await mirror.status("standby")
        mirror.target.probe.forget()
        mirror.job.resume()
        await mirror.complete()
        (written,) = mirror.target.probe.of("write")
        assert (written.offset, written.length) == (CHUNK, CHUNK)
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_a_guest_that_fails_at_the_target_leaves_its_part_to_the_job():
    policy = ErrorPolicy.IGNORE
    options = {"copy_mode": CopyMode.WRITE_BLOCKING, "on_target_error": policy}
    async with mirroring(pattern(4 * CHUNK), **options) as mirror:
        await mirror.ready()
        await mirror.until(lambda: mirror.check().actively_synced)
        mirror.target.fail("write", once=True)
        await mirror.write(CHUNK + 5 * KiB, b"new")
        await mirror.settled()
        await mirror.complete()
        mirror.assert_equal()


@pytest.mark.asyncio
async def test_requests_are_no_smaller_than_what_the_images_align_to():
    source, target = MemoryNode(pattern(4 * CHUNK)), MemoryNode(4 * CHUNK)
    target.limits = replace(target.limits, request_alignment=16 * KiB)
    async with mirroring(source, target) as mirror:
        await mirror.ready()
        mirror.target.probe.forget()
        await mirror.write(CHUNK + 20 * KiB, b"new")
        await mirror.settled()
        (written,) = mirror.target.probe.of("write")
        assert (written.offset, written.length) == (CHUNK + 16 * KiB, 16 * KiB)
        await mirror.complete()
        mirror.assert_equal()
