"""NVML without a card."""

from types import SimpleNamespace

from blockskip.core.units import GIB


class FakeNvml:
    """Two cards: 8 GiB at index 0 and 24 GiB at index 1."""

    class NVMLError(Exception):
        pass

    NVML_ERROR_NOT_FOUND = 6
    sizes = (8, 24)
    uuids = ("GPU-1234abcd-small", "GPU-12ff5678-large")
    parts = {}  # of a card: (UUID, GiB) of its MIG instances

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        known = {self.nvmlDeviceGetUUID(handle): handle for handle in (0, 1)}
        known |= {uuid: uuid for parts in self.parts.values() for uuid, _ in parts}
        if uuid not in known:
            raise self.NVMLError
        return known[uuid]

    def nvmlDeviceGetUUID(self, handle):
        return handle if isinstance(handle, str) else self.uuids[handle]

    def nvmlDeviceGetName(self, handle):
        return f"Card {self.nvmlDeviceGetUUID(handle)}"

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index):
        if index >= len(self.parts.get(handle, ())):
            raise self.NVMLError
        return self.parts[handle][index][0]

    NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 0, 1
    degrees = (61, 64)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        if sensor != self.NVML_TEMPERATURE_GPU:
            raise self.NVMLError
        return self.degrees[handle]

    def nvmlDeviceGetTemperatureThreshold(self, handle, which):
        assert which == self.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        if handle == 0:
            raise self.NVMLError  # as on cards that do not tell
        return 93

    running = {"Compute": {}, "Graphics": {}}  # GiB by process id, None where it is not told

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._running("Compute")

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return self._running("Graphics")

    def _running(self, kind):
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if gib is None else int(gib * GIB))
            for pid, gib in self.running[kind].items()
        ]

    def nvmlDeviceGetMemoryInfo(self, handle):
        sizes = dict(enumerate(self.sizes))
        sizes |= {uuid: size for parts in self.parts.values() for uuid, size in parts}
        total = sizes[handle] * GIB
        return SimpleNamespace(used=total // 4, total=total)
