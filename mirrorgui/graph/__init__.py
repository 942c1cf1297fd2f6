"""Named nodes and who uses them: what ``blockdev-add`` builds and mirrors stand in."""
