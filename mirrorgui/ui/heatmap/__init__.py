"""The map: a live picture of the dirty bitmap, and the pure numbers behind it."""
