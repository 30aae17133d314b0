"""Runs the program and compares; files of arrays in the safetensors layout."""
import array
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_S = 300


class Failure(Exception):
    pass


class Skip(Exception):
    pass


class Result:
    def __init__(self, args, code, out, err):
        self.args, self.code, self.out, self.err = args, code, out, err

    def json(self):
        return json.loads(self.out)

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __str__(self):
        return f"{' '.join(self.args)}\n  exit {self.code}\n  stdout {self.out[:2000]!r}\n  stderr {self.err[:2000]!r}"


class Harness:
    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())
        self.n_checks = 0
        self.cached_models = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ernie" / "models"

    def __enter__(self):
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="ernie-cli-"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "ERNIE_", "XDG_", "HF_")) and not k.lower().endswith("_proxy")}
        self.env |= {"LC_ALL": "C.UTF-8", "HOME": str(self.tmp / "home"), "XDG_CACHE_HOME": str(self.tmp / "cache"), "XDG_STATE_HOME": str(self.tmp / "state"), "TERM": "xterm"}
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.tmp, ignore_errors=True)

    def run(self, *args, stdin="", env=None, code=0, timeout=TIMEOUT_S):
        """The program with args; code None: any exit status."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        p = subprocess.run([self.program, *map(str, args)], input=data, capture_output=True, env=self.env | (env or {}), timeout=timeout, cwd=self.tmp)
        r = Result([str(a) for a in args], p.returncode, p.stdout.decode("utf-8", "replace"), p.stderr.decode("utf-8", "replace"))
        if code is not None and r.code != code:
            raise Failure(f"exit {code} wanted: {r}")
        return r

    def true(self, condition, what):
        if not condition:
            raise Failure(str(what))
        self.n_checks += 1

    def equal(self, found, wanted, what):
        self.true(found == wanted, f"{what}: found {str(found)[:400]}, wanted {str(wanted)[:400]}")

    def near(self, found, wanted, tolerance, what):
        """Largest difference at most tolerance of the wanted array's range."""
        self.equal(len(found), len(wanted), f"{what}: length")
        extent = max(1e-12, max(wanted) - min(wanted))
        worst = max(abs(a - b) for a, b in zip(found, wanted))
        self.true(worst <= tolerance * extent, f"{what}: off by {worst:g} of a range of {extent:g}")

    def reference(self, name):
        """Tests' own copy, $ERN_REFERENCE, or the folder beside the repository."""
        for folder in (os.environ.get("ERN_REFERENCE"), ROOT / "tests/reference", ROOT.parent / "shared/reference"):
            if folder and (pathlib.Path(folder) / name).exists():
                return pathlib.Path(folder).resolve() / name
        raise Skip(f"reference {name} is not here")

    def smollm2(self):
        path = pathlib.Path(os.environ.get("ERNIE_SMOLLM2") or self.cached_models / "SmolLM2-135M-Instruct.Q4_1.gguf")
        if not path.exists():
            raise Skip(f"SmolLM2 is not in the cache ({path})")
        return path

    def minilm(self):
        for path in (os.environ.get("ERNIE_MINILM"), *sorted(self.cached_models.glob("*[mM]ini*"))):
            if path and (pathlib.Path(path) / "config.json").exists():
                return pathlib.Path(path)
        raise Skip("MiniLM is not in the cache")


DTYPES = {"F32": "f", "F64": "d", "I32": "i", "I64": "q"}


def read_safetensors(path):
    """name -> (shape, flat array)"""
    data = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    out = {}
    for name, v in header.items():
        if name == "__metadata__" or v["dtype"] not in DTYPES:
            continue
        begin, end = v["data_offsets"]
        a = array.array(DTYPES[v["dtype"]])
        a.frombytes(data[8 + n + begin:8 + n + end])
        out[name] = (v["shape"], a)
    return out


def jsonl(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]
