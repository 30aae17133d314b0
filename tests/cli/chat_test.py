"""`ernie chat`: as a script (plain lines) and as a person (a pseudo-terminal) drives it."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from harness import Failure

SHORT = ("--temp", "0", "--max-tokens", "6", "--ignore-end")


class Terminal:
    """The program on a pseudo-terminal; what it prints is matched piece by piece."""

    def __init__(self, h, *args, env=None):
        self.master, slave = pty.openpty()
        self.p = subprocess.Popen([h.program, *map(str, args)], stdin=slave, stdout=slave, stderr=slave, env=h.env | (env or {}), cwd=h.tmp, start_new_session=True,
                                  preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0))
        os.close(slave)
        self.text, self.seen = "", ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.p.poll() is None:
            os.killpg(self.p.pid, signal.SIGKILL)
            self.p.wait()
        os.close(self.master)

    def pump(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def wait(self, pattern, seconds=60):
        """Everything up to and with pattern, without colours."""
        until = time.monotonic() + seconds
        while True:
            clean = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)
            if m := re.search(pattern, clean):
                self.text = clean[m.end():]
                self.seen += clean[:m.end()]
                if pattern.endswith(">>> $"):       # the editor may draw a prompt twice, and reads keys when it is done
                    while self.pump(0.1):
                        pass
                    self.text = ""
                return clean[:m.end()]
            if time.monotonic() > until or (not self.pump(0.2) and self.p.poll() is not None and not self.pump(0)):
                raise Failure(f"never came: {pattern!r}; there was {self.seen[-500:]!r} and {clean[-1000:]!r}")

    def type(self, line):
        os.write(self.master, line.encode())

    def ask(self, line):
        """Type a line; its echo and what stands before the next prompt."""
        self.type(line + "\n")
        return self.wait(r"\n[\s\S]*>>> $")

    def end(self, seconds=20):
        until = time.monotonic() + seconds
        while self.p.poll() is None and time.monotonic() < until:
            self.pump(0.1)
        return self.p.poll()


def check_lines(h):
    """Without a terminal only answers are printed, and the same talk gives the same text."""
    talk = "one\n\ntwo\n"
    r = h.run("chat", h.tiny(), *SHORT, stdin=talk)
    h.true(r.out.count("\n") >= 2 and ">>>" not in r.out and r.err == "", r)
    h.equal(h.run("chat", h.tiny(), *SHORT, stdin=talk).out, r.out, "again")
    h.equal(h.run("chat", h.tiny(), *SHORT, stdin=talk[:-1]).out, r.out, "without a last line end")
    h.equal(h.run("chat", *SHORT, stdin=talk, env={"ERNIE_MODEL": str(h.tiny())}).out, r.out, "$ERNIE_MODEL")


def check_commands(h):
    first = h.run("chat", h.tiny(), *SHORT, stdin="one\n").out
    h.equal(h.run("chat", h.tiny(), *SHORT, stdin="one\n/regen\n").out, first + first, "/regen at temperature 0")
    r = h.run("chat", h.tiny(), *SHORT, stdin="zzz\n/undo\none\n/undo\n/undo\n/regen\n")
    h.true(first in r.out and "taken back; 0 remain" in r.out and "nothing to take back" in r.out and "no answer to write again" in r.out, r)
    r = h.run("chat", h.tiny(), *SHORT, stdin="/system\n/system Be brief.\n/system\n/system clear\n/system\n")
    h.true(r.out.count("(no system message)") == 2 and "Be brief.\n" in r.out, r)
    n = [re.search(r"last prompt: (\d+) tokens", h.run("chat", h.tiny(), *SHORT, *more, stdin=talk + "one\n/stats\n").out)[1]
         for more, talk in (((), ""), (("--system", "Be brief."), ""), ((), "/system Be brief.\n"))]
    h.true(n[0] < n[1] == n[2], f"the system message counts: prompts of {n} tokens")
    r = h.run("chat", h.tiny(), *SHORT, stdin="one\n/stats\n/help\n/sttas\n/save\n/load /nowhere\n/quit\nnever\n")
    h.true(re.search(r"context: \d+ of 4096 tokens, 1 questions", r.out) and "/save FILE" in r.out and "did you mean /stats" in r.out and "/nowhere" in r.err, r)


def check_reuse(h):
    """The second question computes the new tokens alone."""
    r = h.run("chat", h.tiny(), *SHORT, stdin="one two three four five\nsix\n/stats\n")
    m = re.search(r"last prompt: (\d+) tokens, (\d+) of them kept from before, (\d+) computed", r.out)
    h.true(m and int(m[2]) >= 10 and int(m[1]) == int(m[2]) + int(m[3]), r)


def check_several_lines(h):
    """A backslash and a fence both make one message of several lines."""
    for i, talk in enumerate(("a\\\nb\n", '"""a\nb"""\n', '"""\na\nb"""\n', '"""a\\\nb"""\n')):
        file = h.tmp / f"talk{i}.json"
        h.run("chat", h.tiny(), *SHORT, stdin=f"{talk}/save {file}\n")
        wanted = "a\\\nb" if i == 3 else "a\nb"
        h.equal(json.loads(file.read_text())["messages"][0], {"role": "user", "content": wanted}, talk)
    file = h.tmp / "slash.json"
    h.run("chat", h.tiny(), *SHORT, stdin=f"//etc is a folder\n/save {file}\n")
    h.equal(json.loads(file.read_text())["messages"][0]["content"], "/etc is a folder", "//")


def check_save_and_load(h):
    file = h.tmp / "saved.json"
    whole = h.run("chat", h.tiny(), *SHORT, stdin="one\ntwo\n/stats\n").out
    h.run("chat", h.tiny(), *SHORT, stdin=f"one\n/save {file}\n")
    saved = json.loads(file.read_text())
    h.equal((saved["format"], saved["version"], [m["role"] for m in saved["messages"]]), ("ernie-conversation", 1, ["user", "assistant"]), "file")
    h.true((h.tmp / "saved.json.kv").exists(), "computed state")
    loaded = h.run("chat", h.tiny(), *SHORT, stdin=f"/load {file}\ntwo\n/stats\n").out
    answer = whole.splitlines()[-4]
    h.true(answer in loaded, f"the second answer {answer!r} in {loaded!r}")
    kept = [int(re.search(r"(\d+) of them kept", t)[1]) for t in (whole, loaded)]
    h.equal(kept[1], kept[0], "tokens kept")
    h.true(answer in h.run("chat", h.tiny(), *SHORT, "--load", file, stdin="two\n").out, "--load")
    (h.tmp / "saved.json.kv").write_bytes(b"ERNKV001 and then nothing")
    h.true(answer in h.run("chat", h.tiny(), *SHORT, "--load", file, stdin="two\n").out, "a broken state only costs time")
    for text in ("", "{", "[]", '{"format": "ernie-conversation", "messages": [{"role": "tool", "content": 1}]}'):
        file.write_text(text)
        h.run("chat", h.tiny(), "--load", file, code=3)


def check_full_context(h):
    r = h.run("chat", h.tiny(), *SHORT, "--ctx", "24", stdin="one\n" + "word " * 60 + "\n", code=2)
    h.true(re.search(r"has \d+ tokens, the context holds 24", r.err), r)
    r = h.run("chat", h.tiny(), "--temp", "0", "--ignore-end", "--ctx", "48", stdin="one\n")
    h.true("the context is full" in r.err and "/undo" in r.err and "--ctx N" in r.err, r)


def check_terminal(h):
    with Terminal(h, "chat", h.tiny(), *SHORT) as t:
        h.true("tiny, context of 4096 tokens" in t.wait(r">>> $"), "greeting")
        first = t.ask("one").replace("\r", "").splitlines()[1:-1]
        again = t.ask("/regen").replace("\r", "").splitlines()[1:-1]
        h.equal(again, first, "/regen")
        h.true("taken back; 0 remain" in t.ask("/undo"), "/undo")
        t.type('"""a\n')
        t.wait(r"\.\.\. $")
        t.ask('b"""')
        file = h.tmp / "terminal.json"
        h.true("saved: " in t.ask(f"/save {file}"), "/save")
        h.equal(json.loads(file.read_text())["messages"][0]["content"], "a\nb", "fence")
        h.true("loaded: 1 questions" in t.ask(f"/load {file}"), "/load")
        h.true("tokens/s" in t.ask("/stats"), "/stats")
        t.type("\x04")
        h.equal(t.end(), 0, "ctrl-D leaves")
    history = h.tmp / "state/ernie/history"
    h.true("one" in history.read_text() and history.stat().st_mode & 0o77 == 0, "history is kept, and private")
    with Terminal(h, "chat", h.tiny(), *SHORT) as t:
        t.wait(r">>> $")
        h.true("context: 0 of 4096" in t.ask("\x1b[A"), "up is the last line of the last run, /stats")
        t.type("/quit\n")
        h.equal(t.end(), 0, "/quit")


def check_interrupts(h):
    with Terminal(h, "chat", h.tiny(), "--temp", "0.7", "--ignore-end", "--ctx", "100K") as t:
        t.wait(r">>> $")
        t.type("one\n")
        time.sleep(1.0)
        t.type("\x03")                      # stops the answer, not the program
        t.wait(r"\[stopped\]")
        t.wait(r">>> $")
        h.true("1 questions" in t.ask("/stats"), "the part of the answer is kept")
        t.type("half a line\x03")           # drops the line
        t.wait(r"ctrl-C again")
        t.wait(r">>> $")
        t.ask("/stats")                     # and something typed in between counts
        t.type("\x03")
        t.wait(r"ctrl-C again")
        t.wait(r">>> $")
        t.type("\x03")
        h.equal(t.end(), 0, "ctrl-C twice leaves")
    with Terminal(h, "run", h.tiny(), "Hello", "--temp", "0.7", "--ignore-end", "--ctx", "100K") as t:
        time.sleep(1.5)
        t.type("\x03")
        h.equal(t.end(), 130, "run stops with 130")


def check_no_colour(h):
    with Terminal(h, "chat", h.tiny(), *SHORT, env={"NO_COLOR": "1", "TERM": "dumb"}) as t:
        t.wait(r">>> $")
        raw = t.seen
        t.type("/quit\n")
        t.end()
        h.true("\x1b[1m" not in raw + t.text, "no bold")


def check_smollm2(h):
    """A recorded talk of two turns, each answer fed back."""
    cases = json.loads(h.reference("smollm2/cases.json").read_text())
    turns = cases["talks"][0]["turns"]
    r = h.run("chat", h.smollm2(), "--temp", "0", "--exact", stdin="".join(t["user"] + "\n" for t in turns))
    h.equal(r.out, "".join(t["answer"] + "\n" for t in turns), "answers")


def check_default_model(h):
    model = h.smollm2()
    r = h.run("chat", "--temp", "0", "--max-tokens", "4", stdin="Hi\n", env={"ERNIE_MODELS": str(model.parent)})
    h.true(len(r.out) > 2, r)
