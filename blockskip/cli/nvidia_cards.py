"""What NVIDIA's driver tells `doctor`. Imports only the standard library at the top."""

from contextlib import suppress
from pathlib import Path

from blockskip.cli.finding import GIB

PCI = Path("/sys/bus/pci/devices")  # Linux
NVIDIA, DISPLAY = "0x10de", "0x03"  # the vendor, and how the class of a graphics card begins


def describe() -> list[str]:
    """Describe each NVIDIA card by its driver's data; [] without a driver. Raises NVMLError if
    there is a card and its driver does not answer."""
    try:
        import pynvml as nvml
    except ImportError:  # not installed yet
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        none = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if error.value in none and not _is_in_pci():
            return []
        raise
    driver, texts = nvml.nvmlSystemGetDriverVersion(), []
    for card in map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount())):
        memory = nvml.nvmlDeviceGetMemoryInfo(card)
        room = f"{memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
        texts.append(f"{nvml.nvmlDeviceGetName(card)}, driver {driver}, {room}")
    return texts


def capability() -> float:
    """Return the first NVIDIA card's compute capability, such as 8.6; -1 if unknown."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        card = nvml.nvmlDeviceGetHandleByIndex(0)
        return float("{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(card)))
    except Exception:
        return -1.0


def _is_in_pci() -> bool:
    """Return whether Linux lists a graphics card of NVIDIA."""
    for device in PCI.glob("*"):
        with suppress(OSError):
            vendor, kind = ((device / name).read_text() for name in ("vendor", "class"))
            if vendor.startswith(NVIDIA) and kind.startswith(DISPLAY):
                return True
    return False
