"""Check the environment's variables that a download needs, before it begins.

Their errors would come from deep inside the libraries and name no variable.
"""

from __future__ import annotations

import os
from pathlib import Path

from blockskip.core.errors import BadInput

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def check() -> None:
    """Raise BadInput that names the variable with which no download can work."""
    _check_certificates()
    _check_proxies()
    endpoint = os.environ.get("HF_ENDPOINT", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise _unusable("HF_ENDPOINT", "is no address that begins with https://")
    for name, text in os.environ.items():
        if name.startswith("HF_HUB_") and name.endswith("_TIMEOUT") and not text.isdecimal():
            raise _unusable(name, f"is “{text}”, not a number of seconds")
    token = os.environ.get("HF_TOKEN", "")
    if not token.isascii():
        raise _unusable("HF_TOKEN", "is no token: it has letters that no token has")


def _check_certificates() -> None:
    for name in _CERTIFICATES:
        place = os.environ.get(name)
        if place and not Path(place).exists():
            raise _unusable(name, f"names {place}, which is not there")


def _check_proxies() -> None:
    import httpx2

    named = ", ".join(name for name in os.environ if name.lower() in _PROXIES)
    try:
        httpx2.Client().close()
    except ImportError as error:  # of socksio
        raise BadInput(
            f"The proxy in the environment ({named}) is a SOCKS proxy, which needs the Python "
            "package socksio.",
            "Install socksio in the folder .venv, or name an HTTP proxy instead.",
        ) from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise _unusable(named, "names no usable proxy, such as http://proxy:8080") from error


def _unusable(name: str, problem: str) -> BadInput:
    return BadInput(
        f"The environment variable {name} {problem}.", "Correct or remove it, and start again."
    )
