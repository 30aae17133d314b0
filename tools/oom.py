"""oom.py BUILD RUNS SECONDS: see oom.sh. SECONDS > 0: a short run of fixed points, slow programs left out aloud."""
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

build, runs, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
EXIT_SANITIZER = 99
TIMEOUT_S = 120
SLOW_S = 15                 # with a bound on the time, programs whose plain run takes longer are left out
DENSE = 40                  # the first allocations one by one, then strides
SHORT_TEST, SHORT_SCENARIO = 2, 60      # points of a run with a bound on its time


def programs():
    out = subprocess.run(["ctest", "--test-dir", build, "-N"], capture_output=True, text=True, check=True).stdout
    return sorted(re.findall(r"Test +#\d+: (\w+_test)$", out, re.M)) + ["oom_scenario"]


def run(name, at, count_file=None, limit=TIMEOUT_S):
    leaks = "1" if name == "oom_scenario" else "0"     # a failed assertion leaves a test function without freeing anything
    env = dict(os.environ, ERN_FAIL_AT=str(at), CMOCKA_MESSAGE_OUTPUT="tap",
               ASAN_OPTIONS=f"detect_leaks={leaks}:handle_segv=2:exitcode={EXIT_SANITIZER}:allocator_may_return_null=1",
               UBSAN_OPTIONS=f"exitcode={EXIT_SANITIZER}:print_stacktrace=1")
    if count_file:
        env["ERN_OOM_COUNT"] = count_file
    try:
        p = subprocess.run([f"{build}/{name}"], env=env, capture_output=True, timeout=limit, stdin=subprocess.DEVNULL)
        return p.returncode, (p.stdout + p.stderr).decode(errors="replace")
    except subprocess.TimeoutExpired:
        return -999, f"over {limit} s"


def is_crash(name, status, text):
    """A test function that trips over its own NULL is no find: the first frame of ours must lie in the library."""
    bad = status in (EXIT_SANITIZER, -999) or status < 0 or "runtime error:" in text or "Test failed with exception" in text
    if not bad or name == "oom_scenario":
        return bad
    frames = re.findall(r"#\d+ 0x[0-9a-f]+ in \w+ (\S+)", text)
    ours = [f for f in frames if "/src/" in f or "/tests/" in f]
    return not ours or not ours[0].split(":")[0].endswith(("_test.c", "test.h"))


def points(total, n):
    if total <= n:
        return list(range(1, total + 1))
    dense = min(DENSE, n)
    rest = n - dense
    return list(range(1, dense + 1)) + [dense + (total - dense) * (i + 1) // rest for i in range(rest)]


def work(name):
    with tempfile.NamedTemporaryFile("r") as f:
        status, text = run(name, 0, f.name, SLOW_S if seconds else TIMEOUT_S)
        total = int(f.read() or 0)
    if seconds and status == -999:
        return name, total, -1, []
    if name == "oom_scenario" and status != 0:
        return name, total, 0, [(0, status, text)]
    # With a bound on the time, the same points on every machine: a fast one must not find what a slow one does not.
    n = runs if not seconds else SHORT_SCENARIO if name == "oom_scenario" else SHORT_TEST
    finds, done = [], 0
    for at in points(total, n):
        status, text = run(name, at)
        done += 1
        if is_crash(name, status, text):
            finds.append((at, status, text))
            if len(finds) >= 3:
                break
    return name, total, done, finds


names = programs()
passed = failed = skipped = 0
with ThreadPoolExecutor(os.cpu_count()) as pool:
    for name, total, done, finds in pool.map(work, names):
        if done < 0:
            print(f"SKIP {name}: over {SLOW_S} s a run")
            skipped += 1
            continue
        print(f"{name}: {total} allocations, {done} runs with one failing, {len(finds)} crashed", flush=True)
        for at, status, text in finds:
            print(f"---- {name}, ERN_FAIL_AT={at}: status {status}\n" + "\n".join(text.split("\n")[-60:]))
        passed += not finds
        failed += bool(finds)
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed else 0)
