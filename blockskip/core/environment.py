"""Variables of the environment: those of other people, which must not reach the studio's server, and
those that keep the libraries from telling anybody about this computer.

The studio speaks with its own page only, and Gradio's request to itself must not go to a proxy.
Processes that download get the variables back (core/processes.py).
"""

from __future__ import annotations

import os

# also read by httpx and urllib in lower case; on Windows names have no case
_NETWORK = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)
# change how Python runs; a package that only warns would fail under “error”
PYTHON = (
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "PYTHONOPTIMIZE",
    "PYTHONINSPECT",
    "PYTHONDEVMODE",
    "PYTHONVERBOSE",
    "PYTHONIOENCODING",
)
TELEMETRY_OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # also diffusers' and transformers'
    "GRADIO_ANALYTICS_ENABLED": "False",
    "DO_NOT_TRACK": "1",  # whoever else keeps to it
}
_set_aside: dict[str, str] = {}


def refuse_telemetry() -> None:
    """Turn off all telemetry of libraries, here and in every process started from here."""
    os.environ.update(TELEMETRY_OFF)


def isolate() -> None:
    """Take proxies and certificates out of this process's environment, and Gradio's settings."""
    for name in list(os.environ):
        if name.upper() in _NETWORK:
            _set_aside[name] = os.environ.pop(name)
        elif name.upper().startswith("GRADIO_"):
            del os.environ[name]
    refuse_telemetry()


def set_aside() -> dict[str, str]:
    """Return the variables that `isolate` took, for a process that uses the network."""
    return dict(_set_aside)
