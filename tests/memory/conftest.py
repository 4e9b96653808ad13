"""What the tests of memory share: a fake NVML."""

import pytest
from helpers.fake_nvml import FakeNvml

from blockskip.memory import cards, monitor


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setattr(monitor, "_nvml", lambda: fake)
    monkeypatch.setattr(FakeNvml, "parts", {})
    for name in (cards.VISIBLE, cards.ALLOWED):  # put back, even where `pin_card` set them
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return fake
