#!/usr/bin/env python3
"""The same work on ernie and on other programs, in turns: medians, ratios, CSV. See README.md."""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = "512:0:0,4096:0:0,1:0:64,1:4096:64,1:16384:32"      # prompt:depth:answer


class Ernie:
    name = "ernie"

    def __init__(self, program, model, threads, kv, is_cpu):
        self.base = [program, "bench", model, "-t", str(threads), "-r", "1", "--json", "--kv", kv] + ["--cpu-time"] * is_cpu

    def run(self, prompt, depth, answer):
        wants_prompt = prompt if prompt > 1 else 0
        out = subprocess.run(self.base + ["-p", str(wants_prompt), "-d", str(depth), "-n", str(answer)], capture_output=True, text=True, check=True)
        r = json.loads(out.stdout.splitlines()[-1])
        return r["prefill_tokens_per_s"] or None, r["decode_tokens_per_s"] or None

    def close(self):
        pass


class Lines:
    """A program that takes a request a line and answers a line."""

    def __init__(self, name, command, folder):
        self.name = name
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        if not first:
            raise SystemExit(f"{name}: it did not start; see above")
        print(f"# {name}: {first.strip()}", file=sys.stderr)

    def run(self, prompt, depth, answer):
        self.process.stdin.write(json.dumps({"prompt": prompt, "depth": depth, "answer": answer}) + "\n")
        self.process.stdin.flush()
        r = json.loads(self.process.stdout.readline())
        return (prompt / r["prefill_s"] if prompt > 1 else None), (answer / r["decode_s"] if answer else None)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def load():
    return os.getloadavg()[0]


def model_of(a, kind):
    if a.model:
        return a.model
    path = Path(a.work) / f"0.3B.{kind}.gguf"
    if not path.exists():
        part = str(path) + ".part"
        subprocess.run([sys.executable, str(HERE / "synth.py"), "--type", kind, part], check=True)
        os.rename(part, path)
    return str(path.resolve())


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--ernie", required=True, help="the program")
    p.add_argument("--node", help="folder with node_modules/node-llama-cpp")
    p.add_argument("--python", help="Python with llama-cpp-python")
    p.add_argument("--work", default=".", help="folder for models")
    p.add_argument("--model", help="a GGUF file instead of random weights")
    p.add_argument("--types", default="Q8_0,Q4_0")
    p.add_argument("--cases", default=CASES, help="prompt:depth:answer,...")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--kv", default="f16", help="ernie's keys and values; the others keep f16")
    p.add_argument("--cpu-time", action="store_true", help="count processor time: on a busy machine, with --threads 1")
    p.add_argument("--csv", help="file for all rounds")
    a = p.parse_args()
    Path(a.work).mkdir(parents=True, exist_ok=True)
    cases = [tuple(int(x) for x in c.split(":")) for c in a.cases.split(",")]
    context = max(sum(c) for c in cases) + 64
    rows = []
    for kind in a.types.split(","):
        model = model_of(a, kind)
        runners = [Ernie(os.path.abspath(a.ernie), model, a.threads, a.kv, a.cpu_time)]
        if a.node:
            runners.append(Lines("node-llama-cpp", ["node", str(HERE / "llama.mjs"), model, str(a.threads), str(context)] + ["cpu"] * a.cpu_time, a.node))
        if a.python:
            runners.append(Lines("llama-cpp-python", [a.python, str(HERE / "llama_python.py"), model, str(a.threads), str(context)] + ["cpu"] * a.cpu_time, None))
        for case in cases:
            speeds = {r.name: ([], []) for r in runners}
            for i in range(a.rounds):
                print(f"# {kind} {case} round {i + 1}, load {load():.1f}", file=sys.stderr, flush=True)
                for r in runners:
                    both = r.run(*case)
                    for what, v in zip(range(2), both):
                        if v:
                            speeds[r.name][what].append(v)
                    rows.append([kind, *case, i, r.name, both[0] or "", both[1] or "", round(load(), 2)])
            for what, label in enumerate(("prompt", "answer")):
                medians = {n: statistics.median(s[what]) for n, s in speeds.items() if s[what]}
                if medians:
                    others = [v for n, v in medians.items() if n != "ernie"]
                    ratio = f"  ratio to the best other: {medians['ernie'] / max(others):.2f}" if others else ""
                    print(f"{kind} {label} {case[0]} at depth {case[1]}: " + "  ".join(f"{n} {v:.1f}" for n, v in medians.items()) + ratio, flush=True)
        for r in runners:
            r.close()
    if a.csv:
        with open(a.csv, "w", newline="", encoding="utf-8") as f:
            w = csv.writer(f)
            w.writerow(["type", "prompt", "depth", "answer", "round", "program", "prompt_tokens_per_s", "answer_tokens_per_s", "load"])
            w.writerows(rows)


main()
