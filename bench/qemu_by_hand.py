"""The floors on a host without Firecracker: QEMU driven by hand."""
from qemu_booted import Booted
from qemu_woken import Saver, Woken

__all__ = ["Booted", "Saver", "Woken"]
