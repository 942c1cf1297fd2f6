"""QMP: the engine's commands and events as JSON over a socket, as qemu-storage-daemon speaks it."""
