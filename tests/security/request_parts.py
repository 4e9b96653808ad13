"""What the probes of tests/security/requests.py are made of: methods, credentials, addresses of pages and
of this computer, and paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corpus.house import GOOD
from security.watched_studio import Studio

from blockskip.studio import access, guard

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
Headers = Callable[[Studio], list[tuple[str, str]]]

# what somebody has who has not been let in: name → headers
STRANGERS: dict[str, Headers] = {
    "nothing": lambda s: [],
    "an empty key": lambda s: [(access.HEADER, "")],
    "a wrong key": lambda s: [(access.HEADER, "x" * len(s.key))],
    "the key cut": lambda s: [(access.HEADER, s.key[:-1])],
    "the key and more": lambda s: [(access.HEADER, s.key + "x")],
    "the key in other letters": lambda s: [(access.HEADER, s.key.swapcase())],
    "the key between quotes": lambda s: [(access.HEADER, f'"{s.key}"')],
    "the key and a zero byte": lambda s: [(access.HEADER, s.key + "%00")],
    "the key behind a wrong one": lambda s: [(access.HEADER, "x"), (access.HEADER, s.key)],
    "the key elsewhere": lambda s: [
        ("authorization", f"Bearer {s.key}"),
        ("x-api-key", s.key),
        ("referer", f"http://{s.host}/?key={s.key}"),
    ],
    "the key as a cookie": lambda s: [("cookie", f"key={s.key}; {access.HEADER}={s.key}")],
    "another folder's cookie": lambda s: [("cookie", "blockskip-0123456789abcdef=" + "0" * 64)],
    "an empty cookie": lambda s: [("cookie", s.cookie.partition("=")[0] + "=")],
    "a cookie cut": lambda s: [("cookie", s.cookie[:-1])],
    "a cookie in other letters": lambda s: [("cookie", s.cookie.upper())],
    "a damaged cookie": lambda s: [("cookie", f'\xff=;;;,="{s.cookie.replace("=", ":")}')],
    "a proxy's word": lambda s: [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", s.host),
        ("x-forwarded-user", "root"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
    ],
    "another path in a header": lambda s: [
        ("x-original-url", guard.HELLO),
        ("x-rewrite-url", guard.HELLO),
        ("x-http-method-override", "HEAD"),
    ],
    "a websocket": lambda s: [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ],
}

# the address of a page that is not the studio's: its Origin and Sec-Fetch headers
ORIGINS = (
    "http://evil.example",
    "https://evil.example",
    "null",
    "",
    "file://",
    "https://{host}",
    "http://127.0.0.1:9999",
    "http://127.0.0.1",
    "http://localhost:{port}",
    "http://LOCALHOST:{port}",
    "http://{host}.evil.example",
    "http://{host}@evil.example",
    "http://evil.example@{host}",
    "http://{host}/",
    "http://{host}#",
    "HTTP://{host}",
    "http://[::1]:{port}",
    "http://0.0.0.0:{port}",
    "http://2130706433:{port}",
    "chrome-extension://abcdefghijklmnop",
    "http://evil.example http://{host}",
)
FETCHES = (
    ("cross-site", "no-cors", "image"),
    ("cross-site", "cors", "empty"),
    ("cross-site", "navigate", "iframe"),
    ("cross-site", "navigate", "object"),
    ("cross-site", "websocket", "websocket"),
    ("same-site", "cors", "empty"),
    ("same-site", "no-cors", "script"),
    ("same-origin, cross-site", "cors", "empty"),
    ("evil", "", ""),
)
# names by which a page of others could reach this computer
HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:{port}",
    "localhost.evil.example:{port}",
    "evil-localhost",
    "localhost.:{port}",
    "localhost.localdomain",
    "127.0.0.1.:{port}",
    "127.1:{port}",
    "127.0.0.2:{port}",
    "0.0.0.0:{port}",
    "0:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "0177.0.0.1:{port}",
    "127.000.000.001",
    "[::1]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[::]:{port}",
    "::1",
    "evil.example@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "127.0.0.1:{port}, evil.example",
    "127.0.0.1:{port}/evil",
    "127.0.0.1:{port}?evil",
    "127.0.0.1:{port}#evil",
    "127.0.0.1\\evil.example",
    "127.0.0.1%00.evil.example",
    "127.0.0.1%2eevil.example",
    "localhost evil.example",
    "http://127.0.0.1:{port}",
    "lоcalhost:{port}",  # a Cyrillic o
    "１２７.０.０.１",
    "ⓛocalhost",
    "",
    " ",
    ":{port}",
    ".",
    "*",
)
PATHS = (
    *("/../../../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/secret.txt"),
    *("/%252e%252e%252fsecret.txt", "/..%c0%afsecret.txt", "/%c0%ae%c0%ae/secret.txt"),
    *("/..\\..\\secret.txt", "/..%5c..%5csecret.txt", "/....//....//secret.txt", "/.%00./x"),
    *(
        "/%00",
        "/\xff\xfe",
        "/%ff%fe",
        "/%ed%a0%80",
        "/%u002e%u002e/x",
        "/%zz",
        "/%",
        "/a%0d%0aSet-Cookie:x",
    ),
    *("/secret.txt", "/etc/passwd", "/proc/self/environ", "/studio.json", "/studio.secret"),
    *(
        "/C:/Windows/win.ini",
        "/C:%5CWindows%5Cwin.ini",
        "/%5c%5cevil%5cshare",
        "/%5c%5c%3f%5cC:%5cx",
    ),
    *("/CON", "/NUL.png", "/x.png::$DATA", "/aux", "/.env", "/.git/config", "/~root/.ssh/id_rsa"),
    *(
        "//evil.example/x",
        "//etc/passwd",
        "/http:/evil.example",
        "/https://evil.example/",
        "/" + "a/" * 2000,
    ),
    "/" + "x" * 300,
)
FILE_ROUTES = (
    *("", "/gradio_api/file=", "/file=", "/gradio_api/file/", "/static", "/assets", "/svelte"),
    *("/blockskip/picture/draft/-", f"/blockskip/picture/photos/{GOOD[0]}", "/blockskip/crops"),
    *("/gradio_api/proxy=", "/theme.css", "/custom_component", "/gradio_api/custom_component"),
    *(f"/gradio_api/file={Path(__file__).parent}", f"/blockskip/picture/runs/{GOOD[0]}"),
)
