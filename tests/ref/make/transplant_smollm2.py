"""Write SmolLM2-135M-Instruct as an ERNIE 4.5 dense checkpoint: a real language model for the ERNIE graph.

    transplant_smollm2.py --gguf FILE --out DIR [--dtype bf16|f32] [--prove DIR/smollm2]

ERNIE 4.5 dense is the Llama architecture with RoPE on adjacent pairs instead of half-split ones. A `llama` GGUF keeps the rows of
Q and K in adjacent order already, so the tensors of the file go over without any permutation; a half-split checkpoint (Llama in safetensors) would need
new[2j] = old[j], new[2j + 1] = old[j + size / 2] in every head. Names and layout are those of the released -PT folders; tokenizer.json is SmolLM2's own
(byte-level BPE, not ERNIE's SentencePiece model), with its chat template in tokenizer_config.json.

--prove compares Ernie4_5ForCausalLM on the written folder with LlamaForCausalLM on the GGUF, in float32, on the prompts of cases.json, and writes
transplant.json (figures only) into that folder. The weights are SmolLM2's (Apache-2.0) and are not to be committed.
"""
import argparse
import hashlib
import json
import os

import gguf
import numpy as np
import torch
import transformers
from gguf.quants import dequantize
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Ernie4_5ForCausalLM

from make_smollm2 import twin_of

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def pt_name(name):
    part = name.removesuffix(".weight").split(".")
    return (TOP[part[0]] if len(part) == 1 else f"model.layers.{part[1]}.{NAMES[part[2]]}") + ".weight"


def write(reader, out, dtype):
    get = lambda k: reader.fields["llama." + k].contents()
    tensors = {pt_name(t.name): torch.from_numpy(dequantize(t.data, t.tensor_type).astype(np.float32).reshape([int(x) for x in reversed(t.shape)])).to(dtype).contiguous() for t in reader.tensors}
    save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    ids = {k: reader.fields[f"tokenizer.ggml.{k}_token_id"].contents() for k in ("bos", "eos", "padding")}
    hidden, heads = get("embedding_length"), get("attention.head_count")
    config = {"architectures": ["Ernie4_5ForCausalLM"], "model_type": "ernie4_5", "vocab_size": get("vocab_size"), "hidden_size": hidden, "intermediate_size": get("feed_forward_length"), "num_hidden_layers": get("block_count"),
              "num_attention_heads": heads, "num_key_value_heads": get("attention.head_count_kv"), "head_dim": hidden // heads, "hidden_act": "silu", "max_position_embeddings": get("context_length"), "rms_norm_eps": 1e-05,
              "rope_theta": get("rope.freq_base"), "use_bias": False, "tie_word_embeddings": True, "use_cache": True, "torch_dtype": "bfloat16" if dtype == torch.bfloat16 else "float32",
              "bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["padding"]}
    json.dump(config, open(os.path.join(out, "config.json"), "w"), indent=2)
    words = reader.fields["tokenizer.ggml.tokens"].contents()
    twin_of(reader).save(os.path.join(out, "tokenizer.json"))
    json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": words[ids["bos"]], "eos_token": words[ids["eos"]], "pad_token": words[ids["padding"]], "unk_token": words[0], "add_bos_token": False,
               "clean_up_tokenization_spaces": False, "model_max_length": get("context_length"), "chat_template": reader.fields["tokenizer.chat_template"].contents()}, open(os.path.join(out, "tokenizer_config.json"), "w"), indent=2)
    json.dump({"bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["padding"], "do_sample": False}, open(os.path.join(out, "generation_config.json"), "w"), indent=2)
    return {"tensors": len(tensors), "bytes": os.path.getsize(os.path.join(out, "model.safetensors")), "sha256": hashlib.sha256(open(os.path.join(out, "model.safetensors"), "rb").read()).hexdigest(), "config": config}


def prove(path, folder, dtype, cases):
    """Both models in float32. For bf16 the Llama weights are rounded to bf16 too, so that only the graph is compared; the rounding itself is reported apart."""
    home, name = os.path.split(path)
    exact = AutoModelForCausalLM.from_pretrained(home, gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
    same = AutoModelForCausalLM.from_pretrained(home, gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
    if dtype != torch.float32:
        for p in same.parameters():
            p.data = p.data.to(dtype).float()
    ernie = Ernie4_5ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rope, size = ernie.state_dict(), ernie.config.head_dim
    for name, w in same.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # half-split rows -> adjacent rows
            assert torch.equal(w.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2), rope[name]), name
    tok, rows = AutoTokenizer.from_pretrained(folder), []
    for p in cases["prompts"]:
        assert tok.encode(p["prompt"], add_special_tokens=False) == p["ids"], p["prompt"][:40]
        ids = torch.tensor([p["ids"]])
        with torch.no_grad():
            e, s, x = (m(ids, use_cache=False).logits[0].double() for m in (ernie, same, exact))
            new = ernie.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)[0, ids.shape[1]:].tolist()
        want = p["greedy_ids"][:24][:p["compare_steps"]]
        kl = (x.log_softmax(-1).exp() * (x.log_softmax(-1) - e.log_softmax(-1))).sum(-1).mean().item()
        rows.append({"tokens": len(p["ids"]), "max_difference": (e - s).abs().max().item(), "range": (s.max() - s.min()).item(), "top1_same": (e.argmax(-1) == s.argmax(-1)).float().mean().item(),
                     "rounding_max_difference": (e - x).abs().max().item(), "rounding_kl": kl, "greedy_same_as_cases": new[:len(want)] == want})
    assert tok.apply_chat_template(cases["chat"][0]["messages"], tokenize=False, add_generation_prompt=True) == cases["chat"][0]["prompt"]
    return rows


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--gguf", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    ap.add_argument("--prove")
    args = ap.parse_args()
    torch.set_num_threads(1)
    os.makedirs(args.out, exist_ok=True)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    made = write(gguf.GGUFReader(args.gguf), args.out, dtype)
    print({k: v for k, v in made.items() if k != "config"})
    if args.prove:
        cases = json.load(open(os.path.join(args.prove, "cases.json")))
        rows = prove(args.gguf, args.out, dtype, cases)
        path = os.path.join(args.prove, "transplant.json")
        book = json.load(open(path)) if os.path.exists(path) else {"about": "Ernie4_5ForCausalLM on the transplanted folder against LlamaForCausalLM on the GGUF, float32; max_difference: same weights; rounding_*: against the unrounded weights"}
        book["versions"] = {"transformers": transformers.__version__, "torch": torch.__version__}
        book[args.dtype] = made | {"max_difference": max(r["max_difference"] for r in rows), "prompts": rows}
        json.dump(book, open(path, "w"), indent=1)
        for r in rows:
            print(r)
        print("max difference", book[args.dtype]["max_difference"])


if __name__ == "__main__":
    main()
