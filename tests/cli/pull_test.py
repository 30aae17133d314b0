"""`ernie pull` against a server of our own: whole and broken transfers, wrong sums, missing files, redirects, hostile names."""
import hashlib
import http.server
import json
import os
import random
import re
import threading
from urllib.parse import unquote, urlsplit

NAME = "owner/tiny model"
BIG = random.Random(3).randbytes(700_001)
FILES = {"config.json": b'{"model_type": "ernie4_5"}\n', "model.safetensors": BIG, "sub/dir/a b.txt": b"hello\n", "empty.txt": b""}


class Server:
    """What it does wrong is told by attributes; requests are kept in log."""

    def __init__(self):
        self.files, self.log = dict(FILES), []
        self.cut_after, self.n_cuts = None, 0       # break the connection after so many bytes, so many times
        self.ignores_range = self.lies = self.redirects = self.has_blobs = self.loops = False
        self.bad_range = False
        self.listing, self.status, self.token = None, {}, None
        self.n_busy = 0                             # answer 503 so many times first
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.answer(self)

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.handle_error = lambda *_: None       # clients that leave are part of the tests
        self.base = f"http://127.0.0.1:{self.httpd.server_port}"
        self.thread = threading.Thread(target=self.httpd.serve_forever, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()

    def reply(self, r, status, body=b"", headers=()):
        r.send_response(status)
        for k, v in headers:
            r.send_header(k, v)
        r.send_header("Content-Length", str(len(body)))
        r.end_headers()
        r.wfile.write(body)

    def siblings(self, with_blobs):
        out = []
        for name, data in self.files.items():
            item = {"rfilename": name}
            if with_blobs:
                item |= {"size": len(data), "blobId": "0" * 40}
                if name.endswith(".safetensors"):
                    item["lfs"] = {"sha256": self.sum(data), "size": len(data), "pointerSize": 134}
            out.append(item)
        return out

    def sum(self, data):
        return hashlib.sha256(b"lie" if self.lies else data).hexdigest()

    def answer(self, r):
        url = urlsplit(r.path)
        path = unquote(url.path)
        self.log.append((path, url.query, r.headers.get("Range"), r.headers.get("Authorization")))
        if self.n_busy:
            self.n_busy -= 1
            return self.reply(r, 503)
        if self.token and r.headers.get("Authorization") != f"Bearer {self.token}" and not path.startswith("/cdn/"):
            return self.reply(r, 401)
        if m := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path):
            if m[1] != NAME or m[2] not in (None, "v1"):
                return self.reply(r, 404)
            listing = self.listing if self.listing is not None else {"id": NAME, "siblings": self.siblings(self.has_blobs and "blobs=true" in url.query)}
            return self.reply(r, 200, json.dumps(listing).encode(), [("Content-Type", "application/json")])
        if m := re.fullmatch(r"/(.+?)/resolve/(main|v1)/(.+)", path):
            data = self.files.get(m[3])
            if m[1] != NAME or data is None or m[3] in self.status:
                return self.reply(r, self.status.get(m[3], 404))
            if self.loops:
                return self.reply(r, 302, headers=[("Location", r.path)])
            if self.redirects:
                return self.reply(r, 302, headers=[("Location", "/cdn/" + r.path.split("/", 4)[-1]), ("X-Linked-Etag", f'"{self.sum(data)}"'), ("X-Linked-Size", str(len(data))), ("ETag", '"other"')])
            return self.send_file(r, data)
        if path.startswith("/cdn/"):
            return self.send_file(r, self.files[path[5:].split("/", 0)[0].removeprefix("main/")])
        self.reply(r, 404)

    def send_file(self, r, data):
        begin, status = 0, 200
        if (m := re.fullmatch(r"bytes=(\d+)-", r.headers.get("Range") or "")) and not self.ignores_range:
            begin, status = int(m[1]), 206
            if begin >= len(data):
                return self.reply(r, 416)
        body = data[begin:]
        r.send_response(status)
        if status == 206:
            shown = begin + (7 if self.bad_range else 0)
            r.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        r.send_header("ETag", f'W/"{self.sum(data)}"' if len(data) % 2 else f'"{self.sum(data)}"')
        r.send_header("Content-Length", str(len(body)))
        r.end_headers()
        if self.cut_after is not None and self.n_cuts and len(body) > self.cut_after:
            self.n_cuts -= 1
            r.wfile.write(body[:self.cut_after])
            r.wfile.flush()
            r.close_connection = True
            r.connection.close()
            return
        r.wfile.write(body)


def pull(h, s, out, *more, **kw):
    return h.run("pull", NAME, "--base", s.base, "-o", h.tmp / out, *more, **kw)


def same_files(h, s, out):
    found = {str(p.relative_to(h.tmp / out)): p.read_bytes() for p in (h.tmp / out).rglob("*") if p.is_file()}
    h.equal(sorted(found), sorted(s.files), "files")
    for name, data in s.files.items():
        h.true(found[name] == data, f"{name}: the same bytes")


def check_whole(h):
    for blobs in (False, True):
        with Server() as s:
            s.has_blobs = blobs
            out = f"whole{blobs}"
            r = pull(h, s, out, "--json").json()
            same_files(h, s, out)
            h.equal({f["name"]: f["bytes"] for f in r["files"]}, {n: len(d) for n, d in FILES.items()}, "sizes")
            big = next(f for f in r["files"] if f["name"] == "model.safetensors")
            h.equal((big["sha256"], big["checked"], big["state"]), (hashlib.sha256(BIG).hexdigest(), True, "fetched"), "sum")
            s.log.clear()
            again = pull(h, s, out, "--json").json()
            h.equal({f["state"] for f in again["files"]}, {"present"}, "nothing is fetched twice")
            h.true(not any("/resolve/" in path for path, *_ in s.log), s.log)


def check_models_folder(h):
    """Without -o the model lies in the models folder and goes by its name."""
    with Server() as s:
        r = h.run("pull", NAME, "--base", s.base + "/", env={"ERNIE_MODELS": str(h.tmp / "models")})
        h.equal(r.out.strip(), str(h.tmp / "models" / NAME), "folder")
        h.true((h.tmp / "models" / NAME / "config.json").exists(), "config.json")


def check_redirect(h):
    with Server() as s:
        s.redirects = True
        r = pull(h, s, "redirect", "--json").json()
        same_files(h, s, "redirect")
        h.true(all(f["checked"] for f in r["files"]), "X-Linked-Etag is the sum")
        s.lies = True
        r = pull(h, s, "redirect-lie", code=3)
        h.true("wrong checksum" in r.err, r)
        s.lies, s.redirects, s.loops = False, False, True
        r = pull(h, s, "loop", code=3)
        h.true("redirects" in r.err, r)


def check_broken(h):
    """A connection that breaks goes on where it broke, several times."""
    with Server() as s:
        s.cut_after, s.n_cuts = 100_000, 6
        pull(h, s, "broken")
        same_files(h, s, "broken")
        ranges = [r for path, _, r, _ in s.log if path.endswith("model.safetensors")]
        h.true(ranges[0] is None and len([r for r in ranges if r]) >= 5, ranges)


def check_resume(h):
    """The next run goes on where the last one ended; what is there is not asked for again."""
    with Server() as s:
        (h.tmp / "resume").mkdir()
        (h.tmp / "resume/model.safetensors.part").write_bytes(BIG[:300_000])
        pull(h, s, "resume")
        same_files(h, s, "resume")
        h.true("bytes=300000-" in [r for _, _, r, _ in s.log], s.log)
    for way in ("ignores_range", "bad_range"):
        with Server() as s:
            setattr(s, way, True)
            (h.tmp / way).mkdir()
            (h.tmp / way / "model.safetensors.part").write_bytes(BIG[:300_000])
            r = pull(h, s, way, code=None)
            if way == "ignores_range":
                same_files(h, s, way)
            else:
                h.true(r.code == 3 and "another part" in r.err and not (h.tmp / way / "model.safetensors").exists(), r)
    with Server() as s:             # a part of another version: the sum tells, and the file is fetched anew
        (h.tmp / "stale").mkdir()
        (h.tmp / "stale/model.safetensors.part").write_bytes(b"x" * 300_000)
        pull(h, s, "stale")
        same_files(h, s, "stale")
    for there in (BIG, BIG + b"more"):
        for blobs in (False, True):
            with Server() as s:     # whole but not renamed; or longer than the file
                s.has_blobs = blobs
                out = f"full{len(there)}{blobs}"
                (h.tmp / out).mkdir()
                (h.tmp / out / "model.safetensors.part").write_bytes(there)
                pull(h, s, out)
                same_files(h, s, out)


def check_wrong_sum(h):
    for blobs in (False, True):
        with Server() as s:
            s.lies, s.has_blobs = True, blobs
            out = f"lie{blobs}"
            r = pull(h, s, out, "--only", "*.safetensors", code=3)
            h.true("wrong checksum" in r.err and hashlib.sha256(BIG).hexdigest() in r.err and hashlib.sha256(b"lie").hexdigest() in r.err, r)
            h.equal(list((h.tmp / out).iterdir()), [], "nothing is left behind")


def check_verify(h):
    with Server() as s:
        s.has_blobs = True
        pull(h, s, "verify")
        path = h.tmp / "verify/model.safetensors"
        path.write_bytes(b"x" * len(BIG))
        pull(h, s, "verify")
        h.true(path.read_bytes()[:1] == b"x", "without --verify the size decides")
        pull(h, s, "verify", "--verify")
        same_files(h, s, "verify")


def check_missing(h):
    with Server() as s:
        r = h.run("pull", "owner/none", "--base", s.base, "-o", h.tmp / "none", code=3)
        h.true("404" in r.err and "owner/none" in r.err, r)
        s.status["config.json"] = 404
        r = pull(h, s, "missing", code=3)
        h.true("config.json" in r.err and "404" in r.err, r)
        s.status["config.json"] = 403
        r = pull(h, s, "denied", code=2)
        h.true("HF_TOKEN" in r.err, r)
        r = pull(h, s, "nothing", "--only", "*.zip", code=3)
        h.true("none of its 4 files" in r.err, r)


def check_busy(h):
    with Server() as s:
        s.n_busy = 3
        pull(h, s, "busy", "--only", "config.json")
        h.true((h.tmp / "busy/config.json").exists(), "config.json")


def check_revision_and_token(h):
    with Server() as s:
        s.token = "secret"
        r = pull(h, s, "token", code=2)
        h.true("HF_TOKEN" in r.err, r)
        pull(h, s, "token", "--revision", "v1", env={"HF_TOKEN": "secret"})
        same_files(h, s, "token")
        h.true(any("/revision/v1" in path for path, *_ in s.log) and any("/resolve/v1/" in path for path, *_ in s.log), s.log)


def check_hostile(h):
    for name in ("../evil", "/etc/evil", "a/../../evil", "a//b", "", "a/", "x\n", "."):
        with Server() as s:
            s.listing = {"siblings": [{"rfilename": name}]}
            r = pull(h, s, "hostile", code=3)
            h.true("a path inside the folder wanted" in r.err, r)
    for listing in ([], {}, {"siblings": 3}, {"siblings": [{}]}, {"siblings": [{"rfilename": 4}]}, {"siblings": []}):
        with Server() as s:
            s.listing = listing
            pull(h, s, "hostile", code=3)
    h.run("pull", "../x", "--base", "http://127.0.0.1:9", code=2)


def check_offline(h):
    r = h.run("pull", NAME, "--base", "http://127.0.0.1:9", "-o", h.tmp / "offline", code=3)
    h.true("no connection" in r.err and "without a network" in r.err, r)
    r = h.run("pull", NAME, "--base", "file:///etc", "-o", h.tmp / "offline", code=3)
    h.true(os.listdir(h.tmp / "offline") == [] if (h.tmp / "offline").exists() else True, r)


def check_interrupt(h):
    """ctrl-C keeps the part; the next run goes on."""
    import signal
    import subprocess
    import time
    with Server() as s:
        s.files = {"model.safetensors": random.Random(4).randbytes(400_000)}
        gate = threading.Event()
        send = s.send_file

        def slow(r, data):
            if r.headers.get("Range"):
                return send(r, data)
            r.send_response(200)
            r.send_header("Content-Length", str(len(data)))
            r.end_headers()
            r.wfile.write(data[:150_000])
            r.wfile.flush()
            gate.wait(20)

        s.send_file = slow
        p = subprocess.Popen([h.program, "pull", NAME, "--base", s.base, "-o", str(h.tmp / "ctrlc")], env=h.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(100):
            time.sleep(0.05)
            if s.log and any("/resolve/" in path for path, *_ in s.log):
                break
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=20)
        gate.set()
        h.equal(p.returncode, 130, f"exit status: {err}")
        h.true(b"run the command again" in err, err)
        h.true((h.tmp / "ctrlc/model.safetensors.part").stat().st_size > 0, "the part is kept")
        s.log.clear()
        pull(h, s, "ctrlc")
        same_files(h, s, "ctrlc")
        h.true(any(r for _, _, r, _ in s.log), "the rest was asked for")
