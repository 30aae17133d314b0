"""A running `ernie serve`, requests to it, and packages from PyPI."""
import http.client
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_S = 60
REPLY_S = 120


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def want(found, wanted, what=""):
    if found != wanted:
        raise Failure(f"{what}: found {found!r}, wanted {wanted!r}")


def want_true(ok, what):
    if not ok:
        raise Failure(str(what))


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def events(self):
        """Data of the server-sent events; the last may be the text [DONE]."""
        out = []
        for block in self.body.decode().split("\n\n"):
            for line in block.splitlines():
                if line.startswith("data: "):
                    out.append(line[6:] if line[6:] == "[DONE]" else json.loads(line[6:]))
        return out


class Server:
    """One process; stopped by close(), which wants exit status 0."""

    def __init__(self, program, args, env, cwd):
        self.log = open(cwd / f"log-{time.time_ns()}", "w+")
        self.process = subprocess.Popen([program, "serve", *map(str, args), "--port", "0"], env=env, cwd=cwd, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"://([^:]+|\[[^]]*\]):(\d+)", line)
        if not found:
            self.process.kill()
            self.process.wait()
            raise Failure(f"no address: {line!r} {self.errors()[-1000:]}")
        self.port = int(found.group(2))
        self.url = f"http://127.0.0.1:{self.port}"

    def errors(self):
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def request(self, method, path, body=None, headers=None, timeout=REPLY_S):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        try:
            c.request(method, path, data, headers or {})
            r = c.getresponse()
            return Reply(r.status, r.headers, r.read())
        finally:
            c.close()

    def get(self, path, **k):
        return self.request("GET", path, **k)

    def post(self, path, body, **k):
        return self.request("POST", path, body, **k)

    def raw(self, data, wait_s=5):
        """Bytes sent as they are; what comes back until the other side closes or wait_s is over."""
        out = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as s:
            s.sendall(data)
            try:
                while more := s.recv(65536):
                    out += more
            except (TimeoutError, ConnectionError):
                pass
        return out

    def metric(self, name):
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(f"ernie:{name} "):
                return float(line.split()[1])
        raise Failure(f"no metric {name}")

    def close(self, number=signal.SIGTERM, code=0, timeout=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            found = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("the server does not end")
        self.process.stdout.close()
        if code is not None and found != code:
            raise Failure(f"exit {found}: {self.errors()[-2000:]}")
        self.log.close()


class Served:
    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())
        self.models = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ernie" / "models"
        self.venv = pathlib.Path(os.environ.get("ERN_VENV") or pathlib.Path(self.program).parent / "venv")
        self.open = {}
        self.refused = set()

    def __enter__(self):
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="ernie-serve-"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "ERNIE_")) and not k.lower().endswith("_proxy")}
        self.env["LC_ALL"] = "C.UTF-8"
        for name in [k for k in os.environ if k.lower().endswith("_proxy")]:
            del os.environ[name]
        return self

    def __exit__(self, *_):
        for s in self.open.values():
            s.close(code=None)
        shutil.rmtree(self.tmp, ignore_errors=True)

    def reference(self, name):
        for base in (os.environ.get("ERN_REFERENCE"), ROOT / "tests" / "reference", ROOT.parent / "shared" / "reference"):
            if base and (pathlib.Path(base) / name).exists():
                return pathlib.Path(base) / name
        raise Skip(f"no reference files of {name}")

    def real(self):
        path = self.models / "SmolLM2-135M-Instruct.Q4_1.gguf"
        if not path.exists():
            raise Skip(f"{path} is not there")
        return path

    def encoder(self):
        path = self.models / "all-MiniLM-L6-v2"
        return path if path.exists() else self.reference("minilm")

    def start(self, *args):
        """A new server of the caller's own."""
        return Server(self.program, args, self.env, self.tmp)

    def shared(self):
        """One server for most tests: the real small model and an encoder."""
        if "shared" not in self.open:
            self.open["shared"] = self.start(f"smol={self.real()}", f"enc={self.encoder()}", "--ctx", 2048, "--memory", "3G")
        return self.open["shared"]

    def package(self, name):
        """A module of a package from PyPI."""
        if name in self.refused:
            raise Skip(f"package {name} cannot be had")
        for site in self.venv.glob("lib/python3*/site-packages"):
            if str(site) not in sys.path:
                sys.path.append(str(site))
        try:
            return importlib.import_module(name)
        except ImportError:
            pass
        pip = self.venv / "bin" / "pip"
        try:
            if not pip.exists():
                subprocess.run([sys.executable, "-m", "venv", self.venv], check=True, capture_output=True, timeout=120)
            subprocess.run([pip, "install", "-q", name.replace("_", "-")], check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as why:
            self.refused.add(name)
            raise Skip(f"package {name} cannot be had: {why}")
        for site in self.venv.glob("lib/python3*/site-packages"):
            if str(site) not in sys.path:
                sys.path.append(str(site))
        importlib.invalidate_caches()
        return importlib.import_module(name)
