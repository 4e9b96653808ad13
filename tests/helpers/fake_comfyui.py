"""A ComfyUI that answers as the real one does, on a free port of this PC."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from blockskip.core.units import GIB


class FakeComfyUI(ThreadingHTTPServer):
    """held: bytes of its models. total: of its card. busy: pictures in its queue. keeps: whether it
    frees nothing. stats: answer in place of its own. loras: its list, None for a version without.
    asked: bodies sent to /free. paths: of all requests, with their methods."""

    def __init__(self, held_gib=5.0, total_gib=24.0, busy=0, keeps=False, stats=None, loras=None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.held, self.total = int(held_gib * GIB), int(total_gib * GIB)
        self.busy, self.keeps, self.stats, self.asked = busy, keeps, stats, []
        self.loras, self.paths = loras, []

    @property
    def port(self):
        return self.server_address[1]

    def __enter__(self):
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.paths.append(f"GET {self.path}")
        device = {"name": "cuda:0", "type": "cuda", "index": 0, "vram_free": 0}
        device |= {"vram_total": server.total, "torch_vram_total": server.held}
        answers = {
            "/system_stats": server.stats
            or {"system": {"os": "nt", "comfyui_version": "0.3.7"}, "devices": [device]},
            "/prompt": {"exec_info": {"queue_remaining": server.busy}},
        }
        if server.loras is not None:
            answers["/models/loras"] = list(map(str, server.loras() or ()))
        if self.path in answers:
            self._answer(json.dumps(answers[self.path]).encode())
        else:
            self.send_error(404)

    def do_POST(self):
        self.server.paths.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, json.loads(body)))
        if not (self.server.busy or self.server.keeps):
            self.server.held = 0
        self._answer(b"")

    def _answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass
