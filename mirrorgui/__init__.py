"""Mirror a disk image onto another while the source stays in use."""

__version__ = "0.1.0"
