"""Render small templates with Jinja2 in the environment chat templates get, for template_test.c.

    python3 -m venv v && v/bin/pip install jinja2==3.1.6 && v/bin/python tests/ref/make_jinja_cases.py > tests/data/jinja_cases.jsonl

A line: template, vars, and rendered, or error: "template error: CLASS", with line where the source could not be parsed.
The templates are listed in jinja_cases.txt beside this file: expressions one a line, or whole templates between lines of
four hyphens (a blank line at the end of each belongs to it).
"""
import json
import os
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARS = {
    "m": {"role": "user", "content": "Hi 你好", "items": 3, "n": None, "list": [3, 1, 2], "deep": {"a": [{"b": "x"}, {"b": "Y"}, {"c": 1.5}]}},
    "users": [{"name": "bob", "age": 31, "tags": ["x", "y"]}, {"name": "Al", "age": 7, "tags": []}, {"name": "cy", "age": 31}, {"name": "al", "age": 40, "on": True}],
    "words": ["b", "A", "c", "B", "a", "b"], "nums": [3, 1.5, -2, 10, 1], "s": "Hello, Wörld! ǆ ß ﬁ 你好 😀", "t": "  a b\tc \n d  ", "empty": [], "e": "",
    "big": 9007199254740993, "f": 0.1, "neg": -7, "yes": True, "no": False, "nil": None, "html": "<a href=\"x\">1 & 2 'q'</a>", "lines": "one\ntwo\r\nthree\n\nfive",
    "d": {"b": 2, "a": 1, "C": 3, "z": None}, "pairs": [["k", 1], ["l", 2]], "long": "The quick brown fox jumps over the lazy-dog and runs far away", "nested": [[1, 2], [3, [4, 5]]],
}


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    def _run(self, caller):
        return caller()


def fail(message):
    raise jinja2.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    env.globals["raise_exception"] = fail
    return env


def render(source, variables):
    try:
        return {"rendered": environment().from_string(source).render(**variables)}
    except jinja2.TemplateSyntaxError as e:
        return {"error": "template error: " + type(e).__name__, "line": e.lineno}
    except Exception as e:
        return {"error": str(e) if type(e) is jinja2.TemplateError else "template error: " + type(e).__name__}


def sources(path):
    text = open(path, encoding="utf-8", newline="").read()
    parts = text.split("\n----\n")
    for line in parts[0].split("\n"):
        if line and not line.startswith("# "):
            yield "{{ " + line + " }}"
    yield from parts[1:]


def main():
    paths = sys.argv[1:] or [os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja_cases.txt")]
    for path in paths:
        for source in sources(path):
            row = {"template": source, "vars": {k: v for k, v in VARS.items() if k in source}}
            row.update(render(source, row["vars"]))
            try:
                json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                continue
            print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
