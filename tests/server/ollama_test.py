"""The official client of Ollama against the server, call by call."""
import json
import math

from served import Failure, want, want_true

HI = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}}
GREEDY = {"temperature": 0, "num_predict": 24}


def client(h):
    return h.package("ollama").Client(host=h.shared().url, timeout=120)


def refused(h, fn, text, status=400):
    ollama = h.package("ollama")
    try:
        fn()
    except ollama.ResponseError as why:
        want(why.status_code, status, why)
        want_true(text in why.error, why.error)
        return
    raise Failure(f"no error that says {text}")


def check_chat(h):
    c = client(h)
    r = c.chat(model="smol", messages=HI, options=GREEDY)
    want((r.message.role, r.done, r.done_reason, r.model), ("assistant", True, "stop", "smol"))
    want_true("Paris" in r.message.content, r)
    want_true(r.eval_count > 0 and r.prompt_eval_count > 0, r)
    want_true(0 < r.eval_duration + r.prompt_eval_duration <= r.total_duration, r)
    want_true(r.total_duration < 120e9 and r.load_duration >= 0, r)
    chunks = list(c.chat(model="smol:latest", messages=HI, options=GREEDY, stream=True))
    want("".join(k.message.content for k in chunks), r.message.content)
    want([k.done for k in chunks], [False] * (len(chunks) - 1) + [True])
    want((chunks[-1].done_reason, chunks[-1].eval_count), ("stop", r.eval_count))
    want(c.chat(model="smol", messages=HI, options=GREEDY | {"num_predict": 3}).done_reason, "length")


def check_streams_unless_told(h):
    s = h.shared()
    r = s.post("/api/chat", {"model": "smol", "messages": HI, "options": GREEDY})
    want(r.headers["Content-Type"], "application/x-ndjson")
    lines = [json.loads(x) for x in r.body.decode().splitlines()]
    want_true(len(lines) > 2 and all("created_at" in x for x in lines), lines[:2])
    r = s.post("/api/generate", {"model": "smol", "prompt": "Hi", "stream": False, "options": GREEDY})
    want(r.headers["Content-Type"], "application/json")


def check_generate(h):
    c = client(h)
    want_true("Paris" in c.generate(model="smol", prompt=HI[0]["content"], options=GREEDY).response, "an answer")
    a = c.generate(model="smol", prompt=HI[0]["content"], system="Answer in French.", options=GREEDY).response
    b = c.chat(model="smol", messages=[{"role": "system", "content": "Answer in French."}, *HI], options=GREEDY).message.content
    want(a, b)
    raw = c.generate(model="smol", prompt="<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", raw=True, options=GREEDY)
    want_true(raw.response and raw.prompt_eval_count < 20, raw)
    whole = c.generate(model="smol", prompt="Count: 1, 2, 3,", raw=True, options=GREEDY).response
    want("".join(k.response for k in c.generate(model="smol", prompt="Count: 1, 2, 3,", raw=True, options=GREEDY, stream=True)), whole)
    want(c.generate(model="smol").done_reason, "load")
    refused(h, lambda: c.generate(model="smol", prompt="a", suffix="b"), "suffix")
    refused(h, lambda: c.generate(model="smol", prompt="a", template="{{ .Prompt }}"), "template")
    refused(h, lambda: c.generate(model="smol", prompt="a", context=[1, 2]), "context")
    refused(h, lambda: c.generate(model="smol", prompt="a", system="b", raw=True), "system")


def check_options(h):
    c = client(h)
    sampled = [c.chat(model="smol", messages=HI, options={"num_predict": 16, "temperature": 2, "seed": 7, "top_k": 50, "top_p": 0.95, "min_p": 0.01}).message.content
               for _ in range(2)]
    want(sampled[0], sampled[1], "the same seed")
    want(c.chat(model="smol", messages=HI, options=GREEDY | {"stop": ["Paris"]}).message.content.find("Paris"), -1)
    c.chat(model="smol", messages=HI, options=GREEDY | {"repeat_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.5, "num_ctx": 2048})
    for name, v in [("num_ctx", 1 << 20), ("mirostat", 1), ("repeat_last_n", 64), ("num_gpu", 99), ("temperature", -1), ("no_such", 1), ("num_thread", 2)]:
        refused(h, lambda: c.chat(model="smol", messages=HI, options={name: v}), f"options.{name}")


def check_format(h):
    c = client(h)
    json.loads(c.chat(model="smol", messages=[{"role": "user", "content": "A JSON object, please: {\"a\": 1}"}], format="json", options={"temperature": 0, "num_predict": 400}).message.content)
    schema = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 12}}, "required": ["capital"], "additionalProperties": False}
    r = c.generate(model="smol", prompt=HI[0]["content"], format=schema, options={"temperature": 0, "num_predict": 60})
    want(list(json.loads(r.response)), ["capital"])
    r = h.shared().post("/api/chat", {"model": "smol", "messages": HI, "format": "xml"})
    want_true(r.status == 400 and "format" in r.json()["error"], r.body)


def check_tools(h):
    """A strict tool's arguments keep to its schema, in one piece and streamed; the result goes back by the tool's name."""
    s, c = h.shared(), client(h)
    body = {"model": "smol", "messages": [{"role": "user", "content": "Call get_weather for Paris. Write only <tool_call>"}], "tools": [TOOL], "options": {"temperature": 0, "num_predict": 100}}
    r = s.post("/api/chat", body | {"stream": False})
    want(r.status, 200, r.body)
    for call in r.json()["message"].get("tool_calls", []):
        want(list(call["function"]["arguments"]), ["city"])
    past = [*HI, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
            {"role": "tool", "content": "Sunny", "tool_name": "get_weather"}]
    want_true(c.chat(model="smol", messages=past, options=GREEDY).message.content, "an answer after the result")


def check_think(h):
    c = client(h)
    past = [*HI, {"role": "assistant", "thinking": "Easy.", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}]
    for think in (True, False, "low", "high"):
        want_true(c.chat(model="smol", messages=past, think=think, options=GREEDY).message.content, think)
    r = h.shared().post("/api/chat", {"model": "smol", "messages": HI, "think": "very"})
    want_true(r.status == 400 and "think" in r.json()["error"], r.body)


def check_logprobs(h):
    r = client(h).chat(model="smol", messages=HI, options=GREEDY, logprobs=True, top_logprobs=2)
    want_true(r.logprobs and all(len(x.top_logprobs) == 2 and x.logprob <= 0 for x in r.logprobs), r.logprobs)
    want("".join(x.token for x in r.logprobs), r.message.content)


def check_models(h):
    c = client(h)
    listed = {m.model: m for m in c.list().models}
    want(sorted(listed), ["enc", "smol"])
    m = listed["smol"]
    want((m.details.format, m.details.family, m.details.quantization_level), ("gguf", "llama", "Q4_1"))
    want_true(m.size > 9e7 and len(m.digest) == 64 and m.modified_at.year >= 2024, m)
    info = c.show("smol")
    want_true("completion" in info.capabilities and "im_start" in info.template, info.capabilities)
    want((info.modelinfo["general.architecture"], info.modelinfo["llama.block_count"]), ("llama", 30))
    want(c.show("enc").capabilities, ["embedding"])
    want_true(h.shared().get("/api/version").json()["version"], "version")
    refused(h, lambda: c.show("nope"), "nope", 404)
    refused(h, lambda: c.chat(model="nope", messages=HI), "nope", 404)


def check_keep_alive(h):
    s = h.start(f"smol={h.real()}")
    try:
        c = h.package("ollama").Client(host=s.url, timeout=120)
        want(c.chat(model="smol", keep_alive="10m").done_reason, "load")
        first = c.ps().models[0]
        want((first.model, first.size_vram), ("smol", 0))
        import datetime
        left = (first.expires_at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        want_true(590 <= left <= 600, left)
        want(c.chat(model="smol", keep_alive=0).done_reason, "unload")
        import time
        until = time.time() + 10
        while c.ps().models and time.time() < until:
            time.sleep(0.1)
        want(list(c.ps().models), [])
        want_true(c.chat(model="smol", messages=HI, options=GREEDY, keep_alive=-1).message.content, "opened again")
        want_true(c.ps().models[0].expires_at.year > 2100, "for ever")
        want(s.post("/api/chat", {"model": "smol", "messages": [], "keep_alive": "5 parsecs"}).status, 400)
    finally:
        s.close()


def check_embed(h):
    c = client(h)
    r = c.embed(model="enc", input=["a king", "a queen", "the weather in Spain"])
    want([len(v) for v in r.embeddings], [384] * 3)
    want_true(r.prompt_eval_count > 0 and r.total_duration > 0, r)
    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
    v = r.embeddings
    want_true(cosine(v[0], v[1]) > cosine(v[0], v[2]), "likeness")
    want(max(abs(a - b) for a, b in zip(c.embeddings(model="enc", prompt="a king").embedding, v[0])) < 1e-4, True)
    short = c.embed(model="enc", input="a king", dimensions=8).embeddings[0]
    want((len(short), abs(sum(x * x for x in short) - 1) < 1e-5), (8, True))
    want(len(c.embed(model="smol", input="any length: " + "word " * 3000).embeddings[0]), 576)
    refused(h, lambda: c.embed(model="enc", input="x", dimensions=385), "dimensions")
    refused(h, lambda: c.chat(model="enc", messages=HI), "encoder")


def check_errors(h):
    s = h.shared()
    for body, text in [(b"{", "line"), (b"", "empty"), ({"messages": HI}, "model"), ({"model": "smol", "messages": HI, "what": 1}, "what"),
                       ({"model": "smol", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
                       ({"model": "smol", "messages": [{"role": "robot", "content": "x"}]}, "robot"),
                       ({"model": "smol", "messages": HI, "top_logprobs": 2}, "logprobs"), ({"model": "smol", "messages": HI, "tools": [{"type": "function"}]}, "tools[0]"),
                       ({"model": "smol", "messages": HI, "tools": [1]}, "tools"),
                       ({"model": "smol", "messages": [{"role": "user", "content": "word " * 4000}]}, "2048")]:
        r = s.post("/api/chat", body)
        want_true(r.status == 400 and text in r.json()["error"], f"{text}: {r.status} {r.body[:200]}")
