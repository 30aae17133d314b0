"""Drives llama-cpp-python as llama.mjs drives node-llama-cpp: MODEL THREADS CONTEXT [cpu]; a request and an answer a line."""
import json
import sys
import time

import llama_cpp
from llama_cpp import Llama

model, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llm = Llama(model_path=model, n_ctx=context, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False)
now = time.process_time if sys.argv[4:] == ["cpu"] else time.perf_counter
state = 1


def ids(n):
    global state
    out = []
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        out.append((state >> 33) % 100000 + 300)
    return out


print(json.dumps({"ready": True, "version": llama_cpp.__version__}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    llm.reset()
    if r["depth"]:
        llm.eval(ids(r["depth"]))
    prompt, answer = ids(max(r["prompt"], 1)), ids(r["answer"])
    start = now()
    llm.eval(prompt)
    read = now()
    for token in answer:
        llm.eval([token])
    print(json.dumps({"prefill_s": read - start, "decode_s": now() - read}), flush=True)
