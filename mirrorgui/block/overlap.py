"""Whether two images are the same one, lie on one another, or need one another."""

from collections.abc import Iterator

from mirrorgui.block.findings import Finding, refuse
from mirrorgui.block.identity import ImageIdentity, Kind
from mirrorgui.block.storage import Place, Span, below, span_of, wwid_of


def check_overlap(
    source: ImageIdentity, target: ImageIdentity, *, may_stand_on_source: bool = False
) -> Iterator[Finding]:
    """Refuse two names of one image, and images that lie on one another.

    Args:
        source: the image to mirror.
        target: where to.
        may_stand_on_source: the target may have the source in its backing chain.
    """
    if source.kind is Kind.REMOTE and source.kind is target.kind and source.name == target.name:
        yield refuse("same-image", "Source and target are the same image.")
    if source.place is None or target.place is None:
        yield from _check_new_file_on_source(source, target)
        return
    spans = _span(source), _span(target)
    if spans[0] == spans[1] or _is_one_disk(source.place, target.place):
        yield refuse("same-image", "Source and target are the same image.")
        return
    chain = [
        *_check_chain(source, target, target_too=not may_stand_on_source),
        *_check_data_files(source, target),
    ]
    if chain:
        yield from chain
    elif source.place == target.place:
        if spans[0].overlaps(spans[1]):
            text = f"Source and target lie on one another in {target.name}."
            yield refuse("same-image", f"{text} Writing would destroy the source.")
    elif source.place in below(target.place):
        yield refuse("target-on-source", _lies_on(target, source))
    elif target.place in below(source.place):
        yield refuse("source-on-target", _lies_on(source, target))
    elif spans[0].overlaps(spans[1]):
        yield refuse("target-on-source", _lies_on(target, source))


def _is_one_disk(one: Place, other: Place) -> bool:
    """Whether two devices are one disk that is reached by two paths."""
    return one != other and wwid_of(one) != "" and wwid_of(one) == wwid_of(other)


def _span(image: ImageIdentity) -> Span:
    """Say where an image's bytes really are."""
    assert image.place is not None
    return span_of(image.place).part(*image.window)


def _lies_on(upper: ImageIdentity, lower: ImageIdentity) -> str:
    return (
        f"{upper.name} lies on {lower.name}. Writing to it would destroy the source while it is "
        "copied."
    )


def _check_new_file_on_source(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    """Refuse a new file on a file system that the source device holds."""
    if source.place is None or target.kind is not Kind.MISSING or target.mount is None:
        return
    host = Place(target.mount.source_device or target.mount.device)
    if source.place in below(host):
        yield refuse("target-on-source", _lies_on(target, source))


def _check_data_files(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    """Refuse to write where the source stores data, or to store data where the source is."""
    for name, place in source.data_files:
        if any(_meet(written, place) for written in target.written):
            yield refuse("data-file", f"{name} is a data file of the source.")
            return
    own = target.data_file
    if own is None or source.place is None:
        return
    for name, place in ((source.name, source.place), *source.chain):
        if _meet(own, place):
            yield refuse("data-file", f"{name} is the data file of {target.name}.")
            return


def _meet(one: Place, other: Place) -> bool:
    return one in below(other) or other in below(one)


def _check_chain(
    source: ImageIdentity, target: ImageIdentity, *, target_too: bool
) -> Iterator[Finding]:
    ends = [(source, target, "source"), (target, source, "target")]
    for upper, lower, destroyed in ends if target_too else ends[:1]:
        assert lower.place is not None
        for level, (_, place) in enumerate(upper.chain, 1):
            if lower.place in below(place) or place in below(lower.place):
                levels = "level" if level == 1 else "levels"
                whose = f"the {destroyed}'s"
                yield refuse(
                    "in-backing-chain",
                    f"{lower.name} is part of {whose} backing chain ({level} {levels} below). "
                    f"Copying onto it would corrupt the source.",
                )
                return
