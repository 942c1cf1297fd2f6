"""Whether two images are the same one, lie on one another, or need one another."""

from collections.abc import Iterator

from mirrorgui.block.findings import Finding, refuse
from mirrorgui.block.identity import ImageIdentity, Kind
from mirrorgui.block.storage import Place, below, span_of, wwid_of


def check_overlap(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    """Refuse two names of one image, and images that lie on one another."""
    if source.kind is Kind.REMOTE and source.kind is target.kind and source.name == target.name:
        yield refuse("same-image", "Source and target are the same image.")
    if source.place is None or target.place is None:
        yield from _check_new_file_on_source(source, target)
        return
    spans = span_of(source.place), span_of(target.place)
    wwids = wwid_of(source.place), wwid_of(target.place)
    if spans[0] == spans[1] or (wwids[0] and wwids[0] == wwids[1]):
        yield refuse("same-image", "Source and target are the same image.")
        return
    chain = list(_check_chain(source, target))
    if chain:
        yield from chain
    elif source.place in below(target.place):
        yield refuse("target-on-source", _lies_on(target, source))
    elif target.place in below(source.place):
        yield refuse("source-on-target", _lies_on(source, target))
    elif spans[0].overlaps(spans[1]):
        yield refuse("target-on-source", _lies_on(target, source))


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


def _check_chain(source: ImageIdentity, target: ImageIdentity) -> Iterator[Finding]:
    for upper, lower, destroyed in ((source, target, "source"), (target, source, "target")):
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
