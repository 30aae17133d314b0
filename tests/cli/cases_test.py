"""cases.jsonl: args, stdin, env; exit status, patterns for stdout and stderr, values of the JSON on stdout (path.to.value, dots escaped by a backslash)."""
import pathlib
import re

from harness import Failure, Skip, jsonl

HERE = pathlib.Path(__file__).resolve().parent


def fill(h, arg):
    places = {"dense": "dense", "moe": "moe", "gguf": "dense.Q8_0.gguf", "spm": "tokenizer/spm", "vl_moe": "vl_moe", "paddleocr_vl": "paddleocr_vl"}
    arg = arg.replace("{cases}", str(HERE / "cases.jsonl"))
    for name, reference in places.items():
        if "{" + name + "}" in arg:
            arg = arg.replace("{" + name + "}", str(h.reference(reference)))
    return arg


def value_at(value, path):
    for key in re.split(r"(?<!\\)\.", path):
        key = key.replace("\\.", ".")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def check_cases(h):
    problems = []
    for case in jsonl(HERE / "cases.jsonl"):
        try:
            r = h.run(*[fill(h, a) for a in case["args"]], stdin=case.get("stdin", ""), env=case.get("env"), code=case.get("exit", 0))
            for stream, text in (("out", r.out), ("err", r.err)):
                for pattern in case.get(stream, []):
                    h.true(re.search(pattern, text), f"std{stream} has no {pattern!r}: {r}")
            for path, wanted in case.get("json", {}).items():
                h.equal(value_at(r.json(), path), wanted, path)
        except Skip as why:
            print(f"SKIP case {case['name']}: {why}")
        except Exception as why:
            problems.append(f"{case['name']}: {why!r}" if not isinstance(why, Failure) else f"{case['name']}: {why}")
    if problems:
        raise Failure("\n  ".join([f"{len(problems)} cases", *problems]))
