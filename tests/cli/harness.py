"""Runs the program and compares; files of arrays in the safetensors layout."""
import array
import json
import math
import os
import pathlib
import random
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

    def tiny(self):
        """A chat model of one layer with random weights and the tokenizer of the fixtures: it talks nonsense, but always the same."""
        folder = self.tmp / "tiny"
        if folder.exists():
            return folder
        spm = self.reference("tokenizer/spm")
        n_vocab = 1 + max(max(json.loads(line)["ids"], default=0) for line in open(spm / "cases.jsonl", encoding="utf-8"))
        n_vocab = max(n_vocab, max(t["id"] for t in json.loads((spm / "tokenizer.json").read_text())["added_tokens"]) + 1, len(json.loads((spm / "tokenizer.json").read_text())["model"]["vocab"]))
        D, H, K, d, F = 32, 2, 1, 16, 48
        rng = random.Random(1)
        normal = lambda *shape: (list(shape), [rng.gauss(0, 1.0 / shape[-1] ** 0.5) for _ in range(math.prod(shape))])  # noqa: E731
        layer = "model.layers.0."
        folder.mkdir()
        write_safetensors(folder / "model.safetensors", {
            "model.embed_tokens.weight": ([n_vocab, D], [rng.gauss(0, 1) for _ in range(n_vocab * D)]), "model.norm.weight": ([D], [1.0] * D),
            layer + "input_layernorm.weight": ([D], [1.0] * D), layer + "post_attention_layernorm.weight": ([D], [1.0] * D),
            layer + "self_attn.q_proj.weight": normal(H * d, D), layer + "self_attn.k_proj.weight": normal(K * d, D),
            layer + "self_attn.v_proj.weight": normal(K * d, D), layer + "self_attn.o_proj.weight": normal(D, H * d),
            layer + "mlp.gate_proj.weight": normal(F, D), layer + "mlp.up_proj.weight": normal(F, D), layer + "mlp.down_proj.weight": normal(D, F)})
        (folder / "config.json").write_text(json.dumps({
            "model_type": "ernie4_5", "vocab_size": n_vocab, "hidden_size": D, "intermediate_size": F, "num_hidden_layers": 1, "num_attention_heads": H,
            "num_key_value_heads": K, "head_dim": d, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "max_position_embeddings": 131072,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "rope_theta": 500000.0, "torch_dtype": "float32"}))
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            if (spm / name).exists():
                shutil.copy(spm / name, folder / name)
        return folder

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


def write_safetensors(path, arrays):
    """name -> (shape, flat floats), as F32."""
    header, body = {}, b""
    for name, (shape, values) in arrays.items():
        data = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


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
