#!/usr/bin/env python3
"""Copy the reference files that the tests use, cutting the largest arrays: trim.py SOURCE [DESTINATION]

Rows are cut along the first dimension only and values are not touched, so every number is the reference's own.
"""
import fnmatch
import json
import pathlib
import shutil
import struct
import sys

COPY = [
    "dense", "dense_paddle", "dense_untied", "moe", "moe_paddle", "moe_noshared", "llama",
    "dense.BF16.gguf", "dense.Q4_0.gguf", "dense.Q4_1.gguf", "dense.Q5_0.gguf", "dense.Q5_1.gguf",
    "dense.Q8_0.gguf", "moe.BF16.gguf", "moe.Q4_0.gguf", "moe.Q8_0.gguf", "llama.BF16.gguf", "llama.Q8_0.gguf",
    "quant_blocks.safetensors", "gguf_logits.json", "gguf_logits.safetensors",
    "tokenizer", "templates", "chat_templates", "smollm2", "minilm",
]
# file, array, which rows stay: a slice of the first dimension; None drops the array
CUT = [
    ("quant_blocks.safetensors", "*.raw", slice(0, 12)),
    ("quant_blocks.safetensors", "*.f32", slice(0, 12)),
    ("smollm2/expect.safetensors", "prompt0.logits", slice(-1, None)),          # the last position; prompt1 has no other
    ("smollm2/expect.safetensors", "prompt[23].logits", None),
    ("smollm2/expect.safetensors", "prompt1.layer.*.out", slice(-2, None)),
    ("smollm2/expect.safetensors", "prompt1.embed", slice(-2, None)),
    ("smollm2/expect.safetensors", "prompt1.norm", slice(-2, None)),
    ("minilm/expect.safetensors", "s0.layer.[0-4].out", slice(-4, None)),
]


def read(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    meta = header.pop("__metadata__", None)
    return header, meta, raw[8 + n:]


def write(path, header, meta, parts):
    if meta:
        header = {"__metadata__": meta, **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def cut(path, rules):
    header, meta, body = read(path)
    out, parts, at = {}, [], 0
    for name, info in header.items():
        begin, end = info["data_offsets"]
        data, shape = body[begin:end], info["shape"]
        if any(rows is None and fnmatch.fnmatchcase(name, pattern) for pattern, rows in rules):
            continue
        for pattern, rows in rules:
            if fnmatch.fnmatchcase(name, pattern) and shape:
                row = len(data) // shape[0]
                data = b"".join(data[i * row:(i + 1) * row] for i in range(*rows.indices(shape[0])))
                shape = [len(range(*rows.indices(shape[0]))), *shape[1:]]
        out[name] = {"dtype": info["dtype"], "shape": shape, "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    write(path, out, meta, parts)


def main():
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent.parent / "reference")
    for name in COPY:
        for path in [source / name] if (source / name).is_file() else sorted((source / name).rglob("*")):
            if path.is_dir():
                continue
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            rules = [(pattern, rows) for file, pattern, rows in CUT if file == str(path.relative_to(source))]
            if rules:
                cut(place, rules)
    size = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
    print(f"{target}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
