#!/usr/bin/env python3
"""Seeds for the fuzz targets whose input is text: templates of the reference cases, answers with tags, grammars.

Run from the repository's root; rewrites tests/corpus/{template,reason,constrain}_fuzz/seed-*. The seeds of the file formats
are small files that the tests of their writers made.
"""
import hashlib
import json
import pathlib

CORPUS = pathlib.Path("tests/corpus")
MAX_TEMPLATES = 40
ANSWERS = [
    "plain text", "<think>a</think>b", "\n<think>\nwhy\n</think>\n\n<response>\nanswer\n</response>\n",
    "a</think>\n\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>",
    "<tool_call>{\"name\": \"a\"}</tool_call>\n<tool_call>{\"name\": \"b\"}</tool_call>", "<thi<think>x</thin</think><resp",
]
GRAMMARS = ["root ::= \"a\" | [b-c]+ root?", "(ab|c*){1,3}[^x]", "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}}",
            "{\"enum\": [\"x\", 1, null]}", "root ::= \"{\" (\"a\" \":\" num)* \"}\"\nnum ::= [0-9]+"]


def write(folder, texts):
    place = CORPUS / folder
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("seed-*"):
        old.unlink()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        (place / f"seed-{hashlib.sha256(data).hexdigest()[:10]}").write_bytes(data)


def main():
    lines = pathlib.Path("tests/reference/templates/cases.jsonl").read_text().splitlines()
    templates = sorted({json.loads(line)["template"] for line in lines}, key=len)
    step = max(1, len(templates) // MAX_TEMPLATES)
    write("template_fuzz", [t for t in templates[::step] if len(t) < 6000][:MAX_TEMPLATES])
    write("reason_fuzz", [chr(i) + text for i, text in enumerate(ANSWERS, 2)])
    write("constrain_fuzz", [chr(kind) + text for kind in range(6) for text in GRAMMARS])


if __name__ == "__main__":
    main()
