"""Every message of the program has a Chinese translation with the same conversions."""
import ast
import re
import shutil
import subprocess

from harness import ROOT, Skip


def entries(text):
    for block in text.split("\n\n"):
        m = re.search(r'^msgid ((?:".*"\n?)+)msgstr ((?:".*"\n?)+)', block, re.M)
        if m:
            yield tuple("".join(ast.literal_eval(s) for s in re.findall(r'(".*")', part)) for part in m.groups())


def conversions(text):
    found = re.findall(r"%(?:\d+\$)?[-+ #0]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|z)?[diouxXeEfgGcs%]", text)
    return sorted(re.sub(r"\d+\$", "", c) for c in found if not c.endswith("%%"))


def check_chinese(h):
    if not shutil.which("xgettext"):
        raise Skip("no xgettext (package gettext)")
    sources = sorted(str(p) for p in (ROOT / "src/cli").glob("*.[ch]"))
    pot = subprocess.run(["xgettext", "--from-code=UTF-8", "-k_", "-kN_", "--no-location", "-o", "-", *sources], capture_output=True, text=True, check=True).stdout
    translated = dict(entries((ROOT / "po/zh_CN.po").read_text(encoding="utf-8")))
    wanted = [source for source, _ in entries(pot) if source]
    missing = [source for source in wanted if not translated.get(source)]
    h.equal(missing, [], "po/zh_CN.po: messages without a translation")
    for source in wanted:
        h.equal(conversions(translated[source]), conversions(source), f"conversions of {source!r}")
