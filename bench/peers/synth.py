#!/usr/bin/env python3
"""A GGUF file in the shape of ERNIE-4.5-0.3B (or 21B-A3B's dense part, scaled by options) with random weights and a made-up
vocabulary: enough to measure speed with, loadable by every program that reads GGUF. Needs the packages gguf and numpy.

    synth.py --type Q8_0 out.gguf
"""
import argparse

import gguf
import numpy as np

TYPES = {"F32": gguf.GGMLQuantizationType.F32, "F16": gguf.GGMLQuantizationType.F16, "BF16": gguf.GGMLQuantizationType.BF16,
         "Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_0": gguf.GGMLQuantizationType.Q4_0}


def vocabulary(n):
    """A SentencePiece vocabulary: three special tokens, 256 bytes, and words that no text holds."""
    tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)]
    types = [2, 3, 3] + [6] * 256
    tokens += [b"\xe2\x96\x81w%d" % i for i in range(n - len(tokens))]
    return tokens, types + [1] * (n - len(types))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--type", default="Q8_0", choices=sorted(TYPES))
    p.add_argument("--layers", type=int, default=18)
    p.add_argument("--hidden", type=int, default=1024)
    p.add_argument("--ffn", type=int, default=3072)
    p.add_argument("--heads", type=int, default=16)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--head-dim", type=int, default=128)
    p.add_argument("--vocab", type=int, default=103424)
    p.add_argument("--context", type=int, default=131072)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    rng = np.random.default_rng(a.seed)
    w = gguf.GGUFWriter(a.out, "ernie4_5")
    w.add_name("synthetic")
    w.add_block_count(a.layers)
    w.add_context_length(a.context)
    w.add_embedding_length(a.hidden)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    w.add_key_length(a.head_dim)
    w.add_value_length(a.head_dim)
    w.add_rope_freq_base(500000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(a.vocab)
    tokens, types = vocabulary(a.vocab)
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tokens)
    w.add_token_scores([0.0] * a.vocab)
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)

    def matrix(name, rows, cols):
        x = rng.standard_normal((rows, cols), dtype=np.float32) * np.float32(0.02)
        t = TYPES[a.type]
        w.add_tensor(name, x if t == TYPES["F32"] else gguf.quants.quantize(x, t), raw_dtype=t)

    def ones(name):
        w.add_tensor(name, np.ones(a.hidden, dtype=np.float32))

    matrix("token_embd.weight", a.vocab, a.hidden)
    for i in range(a.layers):
        ones(f"blk.{i}.attn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", a.heads * a.head_dim, a.hidden)
        matrix(f"blk.{i}.attn_k.weight", a.kv_heads * a.head_dim, a.hidden)
        matrix(f"blk.{i}.attn_v.weight", a.kv_heads * a.head_dim, a.hidden)
        matrix(f"blk.{i}.attn_output.weight", a.hidden, a.heads * a.head_dim)
        ones(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.ffn_gate.weight", a.ffn, a.hidden)
        matrix(f"blk.{i}.ffn_up.weight", a.ffn, a.hidden)
        matrix(f"blk.{i}.ffn_down.weight", a.hidden, a.ffn)
    ones("output_norm.weight")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
