"""What the environment says of proxies, certificates and the hub: used, or named in a sentence."""

import os

import pytest

from blockskip.core import presets
from blockskip.core.errors import BadInput
from blockskip.models.sources import hub, hub_environment

ROW = presets.model_row("flux2-klein-4b")


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in hub_environment._CERTIFICATES:
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "variable, text, words",
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "(ALL_PROXY) is a SOCKS proxy, which needs"),
        ("all_proxy", "socks5h://127.0.0.1:9", "(all_proxy) is a SOCKS proxy, which needs"),
        ("http_proxy", "::not a url::", "http_proxy names no usable proxy"),
        ("HTTPS_PROXY", "foo://user:secret@x", "HTTPS_PROXY names no usable proxy"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE names /nowhere.pem, which is not there"),
        ("HF_ENDPOINT", "huggingface.co", "HF_ENDPOINT is no address"),
        ("HF_TOKEN", "hf_ü", "HF_TOKEN is no token"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc", "HF_HUB_DOWNLOAD_TIMEOUT is “abc”, not a number"),
    ],
)
def test_what_cannot_be_used_is_named_before_any_work(monkeypatch, variable, text, words):
    if text.startswith("socks") and __import__("importlib.util").util.find_spec("socksio"):
        pytest.skip("SOCKS proxies work here")
    monkeypatch.setenv(variable, text)
    with pytest.raises(BadInput) as refused:
        hub.fetch(ROW, lambda folder: None)
    assert words in refused.value.title and "secret" not in str(refused.value)
    assert refused.value.remedy and not hub.download_folder(ROW).exists()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost,127.0.0.0/8,[::1]"},
        {"HTTPS_PROXY": "http://user:word@proxy:8080", "NO_PROXY": "*"},
        {"HF_ENDPOINT": "https://hub.example", "HF_TOKEN": "hf_x"},
    ],
)
def test_what_is_right_passes(monkeypatch, variables):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    hub_environment.check()
