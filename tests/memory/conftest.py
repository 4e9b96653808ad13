"""What the tests of memory share: a fake NVML."""

import pytest
from helpers.fake_nvml import FakeNvml

from blockskip.memory import monitor


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setattr(monitor, "_nvml", lambda: fake)
    monkeypatch.setattr(FakeNvml, "parts", {})
    return fake
