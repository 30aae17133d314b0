"""What hostile, slow and leaving clients do to the server, and how it ends."""
import json
import signal
import socket
import threading
import time

from served import Failure, want, want_true

HI = [{"role": "user", "content": "Count from one to one hundred in words."}]
LONG = {"messages": HI, "max_tokens": 1500, "ignore_eos": True, "temperature": 0}
CHAT = "/v1/chat/completions"


def until(fn, what, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        if fn():
            return
        time.sleep(0.05)
    raise Failure(f"not in {seconds} s: {what}")


def check_malformed(h):
    s = h.shared()
    for body in (b"", b"{", b"[]", b"nonsense", b'{"messages": [}', b'{"a":1,"a":2}', b"[" * 100000, b'{"messages":"\xff"}', b"\x00" * 100,
                 b'{"messages":[{"role":"user","content":"\\ud800"}]}', b'{"max_tokens":1e999}', json.dumps({"messages": [1, 2]}).encode(),
                 json.dumps({"messages": {"role": "user"}}).encode(), json.dumps({"messages": [{"role": "user", "content": {"a": 1}}]}).encode(),
                 json.dumps({"messages": HI, "tools": [1]}).encode(), json.dumps({"messages": HI, "stop": [1]}).encode(), json.dumps({"messages": HI, "logit_bias": {"x": 1}}).encode(),
                 json.dumps({"messages": HI, "tool_choice": 3}).encode(), json.dumps({"messages": HI, "response_format": {}}).encode()):
        r = s.post(CHAT, body)
        want(r.status, 400, body[:60])
        want_true(r.json()["error"]["message"], r.body)
    want(s.get("/nothing").status, 404)
    want(s.request("DELETE", CHAT).status, 405)
    want(s.get("/v1/models/none").status, 404)
    want(s.get("/v1/models/" + "%CE%A9" * 150).status, 404)
    want(s.get("/v1/models/x" + "%CE%A9" * 150).status, 404)
    want(s.request("DELETE", CHAT).headers["Allow"], "POST")
    s.raw(b"GARBAGE\r\n\r\n", 1)
    want(s.get("/health").json()["status"], "ok")


VALUES = [None, True, False, 0, -1, 1, 1.5, 1e308, -1e308, 2**63 - 1, 2**70, "", "a", "\u0001", "x" * 5000, "\ud83d\ude00", [], {}, [[]], [None], [1, "a"], {"a": {"b": []}}]


def mutated(rng, v, depth=0):
    """v with something in it changed."""
    if rng.random() < 0.25 or not isinstance(v, (dict, list)) or not v:
        return rng.choice(VALUES)
    v = dict(v) if isinstance(v, dict) else list(v)
    key = rng.choice(list(v)) if isinstance(v, dict) else rng.randrange(len(v))
    what = rng.random()
    if what < 0.1 and isinstance(v, dict):
        del v[key]
    elif what < 0.2 and isinstance(v, dict):
        v[rng.choice(["x", "", "n", "stop", "\u00e9"])] = rng.choice(VALUES)
    else:
        v[key] = mutated(rng, v[key], depth + 1)
    return v


def check_fuzzed(h):
    """Bodies that are nearly right get 200 or 4xx; none ends the server or is an internal error."""
    import random
    rng = random.Random(5)
    s = h.shared()
    tool = {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}}}
    seeds = {CHAT: {"model": "smol", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "t"}]},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "c", "content": "r"}],
                    "tools": [tool], "tool_choice": "auto", "max_tokens": 2, "stop": ["z"], "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 2, "stream_options": {"include_usage": True}, "stream": True,
                    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"enum": [1, 2]}}}}}, "n": 2, "seed": 1, "chat_template_kwargs": {"a": 1}},
             "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 2, "n": 1, "logprobs": 1, "echo": False, "bad_words": ["a"], "guided_choice": ["a", "b"], "stream": False},
             "/v1/embeddings": {"model": "enc", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 8},
             "/v1/rerank": {"model": "enc", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1},
             "/tokenize": {"prompt": "a", "with_pieces": True}, "/detokenize": {"tokens": [1, 2, 3]}, "/apply-template": {"messages": [{"role": "user", "content": "x"}]}}
    counts = {}
    for i in range(600):
        path = rng.choice(list(seeds))
        body = seeds[path]
        for _ in range(rng.randint(1, 3)):
            body = mutated(rng, body)
        if isinstance(body, dict) and path in (CHAT, "/v1/completions"):
            body = body | {"max_tokens": 2}
        r = s.post(path, json.dumps(body).encode())
        want_true(r.status in (200, 400, 404), (path, body, r.status, r.body[:300]))
        counts[r.status] = counts.get(r.status, 0) + 1
    want_true(counts.get(200, 0) > 30 and counts.get(400, 0) > 100, counts)
    until(lambda: s.metric("num_requests_running") == 0, "idle")


def check_oversized(h):
    s = h.start(h.reference("dense"), "--max-body", "100K")
    try:
        want(s.post(CHAT, b" " * 200000).status, 413)
        head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        got = s.raw(head + b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(4)) + b"0\r\n\r\n")
        want_true(b" 413 " in got[:40], got[:80])
        s.raw(b"GET /health HTTP/1.1\r\nX: " + b"a" * 200000 + b"\r\n\r\n", 1)
        want(s.get("/health").status, 200)
    finally:
        s.close()


def check_slow_loris(h):
    s = h.start(h.reference("dense"), "--read-timeout", 1)
    try:
        for start in (b"GET /hea", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"):
            with socket.create_connection(("127.0.0.1", s.port), timeout=10) as c:
                c.sendall(start)
                began = time.time()
                try:
                    while time.time() - began < 8:
                        time.sleep(0.3)
                        c.sendall(b"x")
                        c.settimeout(0.01)
                        try:
                            if c.recv(100) == b"":
                                break
                        except TimeoutError:
                            pass
                except ConnectionError:
                    pass
                want_true(time.time() - began < 5, f"{start[:10]} stays open")
        want(s.get("/health").status, 200)
    finally:
        s.close()


def send_and_leave(s, body, wait_s, reset=False):
    data = json.dumps(body).encode()
    c = socket.create_connection(("127.0.0.1", s.port))
    c.sendall(b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    time.sleep(wait_s)
    if reset:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    c.close()


def check_cancel(h):
    s = h.shared()
    before = s.metric("request_cancelled_total")
    for stream in (False, True):
        for reset in (False, True):
            send_and_leave(s, LONG | {"stream": stream}, 0.5, reset)
            until(lambda: s.metric("num_requests_running") == 0, f"cancelled, stream {stream}", 5)
    want(s.metric("request_cancelled_total") - before, 4)
    for _ in range(20):
        send_and_leave(s, LONG | {"stream": True}, 0)
    until(lambda: s.metric("num_requests_running") + s.metric("num_requests_waiting") == 0, "all left", 10)


def check_parallel_equals_single(h):
    s = h.shared()
    def ask(i):
        return s.post(CHAT, {"messages": [{"role": "user", "content": f"Tell me about the number {i}."}], "max_tokens": 24, "seed": i, "temperature": 1}).json()["choices"][0]["message"]["content"]
    single = [ask(i) for i in range(16)]
    found = [None] * 16
    def one(i):
        found[i] = ask(i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    want(found, single)


def check_queue_full(h):
    s = h.start(h.real(), "--ctx", 2048, "--parallel", 1, "--queue", 1)
    found = []
    try:
        for _ in range(2):
            threading.Thread(target=lambda: found.append(s.post(CHAT, LONG).status), daemon=True).start()
            time.sleep(0.4)
        r = s.post(CHAT, LONG)
        want(r.status, 503)
        want_true(int(r.headers["Retry-After"]) >= 1, r.headers)
    finally:
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        s.close()
    until(lambda: len(found) == 2, "both are told", 5)
    want(found, [503, 503])     # a second signal: those at work and those that wait


def check_drain(h):
    """A request that runs when SIGTERM comes is answered whole; new connections are refused; exit status 0."""
    s = h.start(h.real(), "--ctx", 2048)
    got = {}
    def ask():
        got["r"] = s.post(CHAT, {"messages": HI, "max_tokens": 150, "ignore_eos": True, "stream": True})
    t = threading.Thread(target=ask)
    t.start()
    until(lambda: s.metric("num_requests_running") == 1, "running")
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    try:
        late = s.get("/ready", timeout=3)
        want(late.status, 503)
    except OSError:
        pass
    t.join(60)
    want(got["r"].events()[-1], "[DONE]")
    want(got["r"].events()[-2]["choices"][0]["finish_reason"], "length")
    s.close()


def check_second_signal(h):
    """A second signal ends it at once, with requests that wait, run and stream."""
    s = h.start(h.real(), "--ctx", 2048, "--parallel", 2)
    found = []
    def ask(stream):
        try:
            found.append(s.post(CHAT, LONG | {"stream": stream}).status)
        except Exception as why:
            found.append(type(why).__name__)
    threads = [threading.Thread(target=ask, args=(i % 2 == 0,)) for i in range(6)]
    for t in threads:
        t.start()
    until(lambda: s.metric("num_requests_running") == 2, "running")
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    began = time.time()
    s.close(signal.SIGTERM, 0, 15)
    for t in threads:
        t.join(10)
    want_true(len(found) == 6 and set(found) <= {200, 503} and 503 in found, found)
    want_true(time.time() - began < 10, "slow end")


def check_cache_survives_restart(h):
    folder = h.tmp / "cache"
    body = {"messages": [{"role": "user", "content": "word " * 600}], "max_tokens": 2, "temperature": 0}
    texts, cached = [], []
    for _ in range(2):
        s = h.start(h.real(), "--ctx", 2048, "--cache-folder", folder)
        r = s.post(CHAT, body).json()
        texts.append(r["choices"][0]["message"]["content"])
        cached.append(r["usage"]["prompt_tokens_details"]["cached_tokens"])
        s.close()
    want(texts[0], texts[1])
    want_true(cached[0] == 0 and cached[1] > 500, cached)


def check_keys(h):
    path = h.tmp / "keys.json"
    path.write_text(json.dumps({"keys": [{"name": "all", "key": "sk-all-12345"}, {"name": "emb", "key": "sk-emb-12345", "scopes": ["embeddings", "models"]},
                                         {"name": "slow", "key": "sk-slow-12345", "requests_per_minute": 2}, {"name": "few", "key": "sk-few-12345", "tokens_per_day": 10}]}))
    s = h.start(h.real(), "--ctx", 512, "--keys", path, "--cors", "https://example.org")
    try:
        key = lambda k: {"Authorization": f"Bearer sk-{k}-12345"}
        body = {"messages": HI, "max_tokens": 2}
        want(s.post(CHAT, body).status, 401)
        want(s.post(CHAT, body, headers={"Authorization": "Bearer sk-wrong"}).status, 401)
        want(s.post(CHAT, body, headers=key("all")).status, 200)
        want(s.post(CHAT, body, headers={"x-api-key": "sk-all-12345"}).status, 200)
        want(s.post(CHAT, body, headers=key("emb")).status, 403)
        want(s.get("/v1/models", headers=key("emb")).status, 200)
        want([s.get("/v1/models", headers=key("slow")).status for _ in range(3)], [200, 200, 429])
        r = s.get("/v1/models", headers=key("slow"))
        want_true(1 <= int(r.headers["Retry-After"]) <= 60, r.headers)
        want([s.post(CHAT, body, headers=key("few")).status for _ in range(2)], [200, 429])
        want(s.get("/health").status, 200)
        want(s.get("/metrics").status, 401)
        want(s.get("/health").headers["Access-Control-Allow-Origin"], "https://example.org")
        want(s.request("OPTIONS", CHAT).status, 204)
        want_true("sk-" not in s.errors() and "key=all" in s.errors() and "Count from" not in s.errors(), "the log")
    finally:
        s.close()


def check_two_models_one_ceiling(h):
    s = h.shared()
    want(s.post(CHAT, {"model": "smol", "messages": HI, "max_tokens": 1}).status, 200)
    want(s.post("/v1/embeddings", {"model": "enc", "input": "x"}).status, 200)
    want(sum(m["is_open"] for m in s.get("/props").json()["models"]), 2)
