"""Recompute the SmolLM2 reference in plain numpy from the GGUF alone and compare.

    check_smollm2.py --gguf FILE --dir DIR

The file keeps Q and K rows in adjacent-pair order (as every `llama` GGUF does), so the rotation is the one of MODEL.md section 2.3 with the
file's own frequency base and head size. Prints the largest difference of every recorded array and exits 1 when one exceeds its tolerance.
"""
import argparse
import json
import os
import sys

import gguf
import numpy as np
from gguf.quants import dequantize
from safetensors.numpy import load_file


class Llama:
    def __init__(self, path):
        r = gguf.GGUFReader(path)
        get = lambda k: r.fields["llama." + k].contents()
        self.layers, self.heads, self.kv = get("block_count"), get("attention.head_count"), get("attention.head_count_kv")
        self.eps, self.base = np.float32(get("attention.layer_norm_rms_epsilon")), get("rope.freq_base")
        self.w = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32).reshape([int(x) for x in reversed(t.shape)]) for t in r.tensors}
        self.size = self.w["blk.0.attn_q.weight"].shape[0] // self.heads

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def turn(self, x):
        angle = np.arange(len(x))[:, None] * self.base ** (-np.arange(0, self.size, 2) / self.size)[None]
        cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]
        y = np.empty_like(x)
        y[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        y[..., 1::2] = x[..., 1::2] * cos + x[..., 0::2] * sin
        return y

    def run(self, ids):
        """logits [T, vocabulary] and the residual stream after the embedding, each layer and the last norm."""
        x = self.w["token_embd.weight"][ids]
        seen, n = {"embed": x}, len(ids)
        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for i in range(self.layers):
            m = lambda name: self.w[f"blk.{i}.{name}.weight"]
            h = self.norm(x, f"blk.{i}.attn_norm.weight")
            q = self.turn((h @ m("attn_q").T).reshape(n, self.heads, self.size))
            k = self.turn((h @ m("attn_k").T).reshape(n, self.kv, self.size))
            v = (h @ m("attn_v").T).reshape(n, self.kv, self.size)
            mix = np.empty_like(q)
            for a in range(self.heads):
                g = a * self.kv // self.heads
                s = q[:, a] @ k[:, g].T / np.sqrt(np.float32(self.size)) + mask
                s = np.exp(s - s.max(-1, keepdims=True))
                mix[:, a] = s / s.sum(-1, keepdims=True) @ v[:, g]
            x = x + mix.reshape(n, -1) @ m("attn_output").T
            h = self.norm(x, f"blk.{i}.ffn_norm.weight")
            gate = h @ m("ffn_gate").T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ m("ffn_up").T)) @ m("ffn_down").T
            seen[f"layer.{i}.out"] = x
        seen["norm"] = self.norm(x, "output_norm.weight")
        return seen["norm"] @ self.w.get("output.weight", self.w["token_embd.weight"]).T, seen


def nll(logits, ids):
    z = logits[:-1].astype(np.float64)
    top = z.max(-1, keepdims=True)
    return (top[:, 0] + np.log(np.exp(z - top).sum(-1))) - z[np.arange(len(ids) - 1), ids[1:]]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", required=True)
    ap.add_argument("--dir", required=True)
    args = ap.parse_args()
    model = Llama(args.gguf)
    cases, expect = json.load(open(os.path.join(args.dir, "cases.json"))), load_file(os.path.join(args.dir, "expect.safetensors"))
    bad = 0

    def report(what, diff, limit):
        nonlocal bad
        bad += not diff <= limit
        print(f"{what:34s} max difference {diff:.3e}  limit {limit:.1e}{'' if diff <= limit else '  FAILED'}")

    for n, p in enumerate(cases["prompts"]):
        logits, seen = model.run(p["ids"])
        report(f"prompt {n} top 20", max(abs(float(logits[-1, i]) - v) for i, v in p["top20"]), 2e-3)
        ranks = [seen[f"layer.{i}.out"][-1] for i in range(model.layers)]
        report(f"prompt {n} rms, relative", max(abs(np.sqrt((a * a).mean()) / b - 1) for a, b in zip(ranks, p["rms_layers"])), 1e-3)
        for key, got in [("logits", logits)] + list(seen.items()):
            ref = expect.get(f"prompt{n}.{key}")
            if ref is not None:
                report(f"prompt {n} {key}, of range", float(np.abs(got[-len(ref):] - ref).max() / np.ptp(ref)), 1e-4)
    t = cases["text"]
    report("text, each log-probability", float(np.abs(nll(model.run(t["ids"])[0], np.array(t["ids"])) - t["nll_each"]).max()), 1e-3)
    sums = [nll(model.run(w)[0], np.array(w)).sum() for w in (t["ids"][i:i + 512] for i in range(0, len(t["ids"]) - 1, 512))]
    report("text, windows of 512, sum", float(np.abs(np.array(sums) - t["nll_sum_per_window_of_512"]).max()), 1e-2)
    report("perplexity, windows of 512", abs(float(np.exp(sum(sums) / t["scored_in_windows_of_512"])) - t["perplexity_windows_of_512"]), 1e-3)
    checked = 0
    for row in cases["prompts"] + [u for talk in cases["talks"] for u in talk["turns"]]:
        new = row.get("greedy_ids", row.get("answer_ids"))
        full = row["ids"] + new
        logits = model.run(full)[0][len(row["ids"]) - 1:-1]
        same = logits.argmax(-1) == new
        best = np.sort(logits, -1)[:, -2:]
        report(f"greedy of {len(row['ids'])} + {len(new)}, margins", float(np.abs(best[:, 1] - best[:, 0] - row.get("greedy_margins", row.get("margins"))).max()), 4e-3)
        bad += not same[:row["compare_steps"]].all()
        checked += int(same[:row["compare_steps"]].sum())
    print(f"greedy tokens confirmed {checked}")
    print("FAILED" if bad else "all within tolerance")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
