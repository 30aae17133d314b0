"""The official client of OpenAI against the server, call by call."""
import base64
import json
import math
import struct

from served import Failure, want, want_true

HI = [{"role": "user", "content": "Say hello in five words."}]
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}}, "required": ["city", "unit"],
    "additionalProperties": False}}}


def client(h, **k):
    openai = h.package("openai")
    return openai.OpenAI(base_url=h.shared().url + "/v1", api_key="none", max_retries=0, timeout=120, **k)


def fails(h, fn, kind, param=None):
    openai = h.package("openai")
    try:
        fn()
    except getattr(openai, kind) as why:
        if param is not None:
            want(why.body.get("param"), param, "param")
        return why
    raise Failure(f"no {kind}")


def check_models(h):
    c = client(h)
    want([m.id for m in c.models.list()], ["smol", "enc"])
    want(c.models.retrieve("smol").object, "model")
    fails(h, lambda: c.models.retrieve("nope"), "NotFoundError", "model")
    fails(h, lambda: c.chat.completions.create(model="nope", messages=HI), "NotFoundError")


def check_chat(h):
    c = client(h)
    r = c.chat.completions.create(model="smol", messages=HI, max_tokens=16, temperature=0)
    x = r.choices[0]
    want(r.object, "chat.completion")
    want(x.message.role, "assistant")
    want_true(x.message.content and x.finish_reason in ("stop", "length"), r)
    want(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
    want_true(0 < r.usage.completion_tokens <= 16, r.usage)
    parts = [{"role": "user", "content": [{"type": "text", "text": HI[0]["content"]}]}]
    want(c.chat.completions.create(model="smol", messages=parts, max_completion_tokens=16, temperature=0).choices[0].message.content, x.message.content)


def check_chat_stream(h):
    c = client(h)
    whole = c.chat.completions.create(model="smol", messages=HI, max_tokens=12, temperature=0)
    text, ends, n_usage = "", [], 0
    chunks = list(c.chat.completions.create(model="smol", messages=HI, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
    want(chunks[0].choices[0].delta.role, "assistant")
    for k in chunks:
        want(k.object, "chat.completion.chunk")
        want(k.id, chunks[0].id)
        if not k.choices:
            n_usage += 1
            want(k.usage.completion_tokens, whole.usage.completion_tokens)
            continue
        want(k.usage, None)
        text += k.choices[0].delta.content or ""
        if k.choices[0].finish_reason:
            ends.append(k.choices[0].finish_reason)
    want(text, whole.choices[0].message.content)
    want(ends, [whole.choices[0].finish_reason])
    want(n_usage, 1)
    want(chunks[-1].choices, [])
    raw = h.shared().post("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "stream": True})
    want(raw.events()[-1], "[DONE]")
    want_true(raw.headers["Content-Type"].startswith("text/event-stream"), raw.headers)
    want_true(all("usage" not in e for e in raw.events()[:-1]), "usage unasked for")


def check_seed_and_n(h):
    c = client(h)
    ask = dict(model="smol", messages=HI, max_tokens=12, temperature=1, top_p=0.95)
    several = [x.message.content for x in c.chat.completions.create(seed=7, n=3, **ask).choices]
    for i in range(3):
        want(c.chat.completions.create(seed=7 + i, **ask).choices[0].message.content, several[i], f"seed {7 + i}")
    want_true(len(set(several)) > 1, several)
    seen = {i: "" for i in range(3)}
    for k in c.chat.completions.create(seed=7, n=3, stream=True, **ask):
        for x in k.choices:
            seen[x.index] += x.delta.content or ""
    want(list(seen.values()), several)


def check_logprobs(h):
    c = client(h)
    r = c.chat.completions.create(model="smol", messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    content = r.choices[0].logprobs.content
    want("".join(t.token for t in content), r.choices[0].message.content)
    for t in content:
        want(len(t.top_logprobs), 3)
        want(t.top_logprobs[0].token, t.token)
        want_true(t.logprob <= 0 and bytes(t.bytes).decode("utf-8", "replace"), t)
    r = c.chat.completions.create(model="smol", messages=HI, max_tokens=2, logprobs=True)
    want(r.choices[0].logprobs.content[0].top_logprobs, [])
    tokens = []
    for k in c.chat.completions.create(model="smol", messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3, stream=True):
        if k.choices and k.choices[0].logprobs:
            tokens += k.choices[0].logprobs.content
    want([t.token for t in tokens], [t.token for t in content])


def check_stop_and_bias(h):
    c = client(h)
    whole = c.completions.create(model="smol", prompt="1 2 3 4 5 6", max_tokens=20, temperature=0).choices[0]
    want_true("9" in whole.text, whole)
    cut = c.completions.create(model="smol", prompt="1 2 3 4 5 6", max_tokens=20, temperature=0, stop=["9", "zzz"]).choices[0]
    want(cut.text, whole.text.split("9")[0])
    want(cut.finish_reason, "stop")
    ids = h.shared().post("/tokenize", {"prompt": " 7", "add_special_tokens": False}).json()["tokens"]
    banned = c.completions.create(model="smol", prompt="1 2 3 4 5 6", max_tokens=4, temperature=0, logit_bias={str(i): -100 for i in ids}).choices[0]
    want_true(banned.text != whole.text[:len(banned.text)], banned)
    fails(h, lambda: c.completions.create(model="smol", prompt="a", logit_bias={"999999": 1}), "BadRequestError", "logit_bias")
    fails(h, lambda: c.completions.create(model="smol", prompt="a", stop=["a", "b", "c", "d", "e"]), "BadRequestError", "stop")


def check_tools(h):
    c = client(h)
    ask = dict(model="smol", messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[TOOL], max_tokens=80, temperature=0)
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        r = c.chat.completions.create(tool_choice=choice, parallel_tool_calls=False, **ask)
        want(r.choices[0].finish_reason, "tool_calls")
        want(r.choices[0].message.content, None)
        call = r.choices[0].message.tool_calls[0]
        arguments = json.loads(call.function.arguments)
        want(set(arguments), {"city", "unit"})
        want(call.function.name, "get_weather")
        want_true(call.id.startswith("call_"), call)
    calls = {}
    for k in c.chat.completions.create(tool_choice="required", parallel_tool_calls=False, stream=True, **ask):
        for t in k.choices[0].delta.tool_calls or []:
            x = calls.setdefault(t.index, {"id": None, "name": None, "arguments": ""})
            x["id"] = t.id or x["id"]
            x["name"] = t.function.name or x["name"]
            x["arguments"] += t.function.arguments or ""
    want(calls[0]["name"], "get_weather")
    want(set(json.loads(calls[0]["arguments"])), {"city", "unit"})
    none = c.chat.completions.create(tool_choice="none", **ask)
    want(none.choices[0].message.tool_calls, None)
    again = ask["messages"] + [r.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "18 C"}]
    c.chat.completions.create(model="smol", messages=again, tools=[TOOL], max_tokens=5)
    fails(h, lambda: c.chat.completions.create(tool_choice={"type": "function", "function": {"name": "x"}}, **ask), "BadRequestError")
    fails(h, lambda: c.chat.completions.create(model="smol", messages=HI, tools=[{"type": "function", "function": {}}]), "BadRequestError", "tools[0].function.name")


def check_formats(h):
    c = client(h)
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
              "required": ["name", "age"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    r = c.chat.completions.create(model="smol", messages=[{"role": "user", "content": "Make up a person."}], response_format=form, max_tokens=100)
    person = json.loads(r.choices[0].message.content)
    want(set(person), {"name", "age"})
    want_true(0 <= person["age"] <= 150, person)
    r = c.chat.completions.create(model="smol", messages=HI, response_format={"type": "json_object"}, max_tokens=200, temperature=0)
    if r.choices[0].finish_reason == "stop":
        want_true(isinstance(json.loads(r.choices[0].message.content), dict), r)
    for extra, text in (({"guided_choice": ["red", "green"]}, {"red", "green"}), ({"guided_regex": "[ab]{3}"}, None), ({"guided_grammar": 'root ::= "x" "y"'}, {"xy"})):
        found = c.chat.completions.create(model="smol", messages=HI, max_tokens=20, extra_body=extra).choices[0].message.content
        want_true(found in text if text else len(found) == 3 and set(found) <= {"a", "b"}, (extra, found))
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}
    fails(h, lambda: c.chat.completions.create(model="smol", messages=HI, response_format=bad), "BadRequestError")
    fails(h, lambda: c.chat.completions.create(model="smol", messages=HI, extra_body={"guided_regex": "a", "guided_choice": ["b"]}), "BadRequestError")


def check_completions(h):
    c = client(h)
    r = c.completions.create(model="smol", prompt=["The capital of France is", "1 2 3"], max_tokens=4, temperature=0, n=2)
    want([x.index for x in r.choices], [0, 1, 2, 3])
    want(r.choices[0].text, r.choices[1].text)
    want_true("Paris" in r.choices[0].text, r)
    ids = h.shared().post("/tokenize", {"prompt": "The capital of France is"}).json()["tokens"]
    by_ids = c.completions.create(model="smol", prompt=ids, max_tokens=4, temperature=0)
    want(by_ids.choices[0].text, r.choices[0].text)
    echo = c.completions.create(model="smol", prompt="The capital of France is", max_tokens=4, temperature=0, echo=True)
    want(echo.choices[0].text, "The capital of France is" + r.choices[0].text)
    text = "".join(k.choices[0].text for k in c.completions.create(model="smol", prompt=ids, max_tokens=4, temperature=0, stream=True) if k.choices)
    want(text, r.choices[0].text)
    lp = c.completions.create(model="smol", prompt=ids, max_tokens=4, temperature=0, logprobs=2).choices[0].logprobs
    want("".join(lp.tokens), r.choices[0].text)
    want([len(t) for t in lp.top_logprobs], [2] * len(lp.tokens))
    fails(h, lambda: c.completions.create(model="smol", prompt="a", suffix="b"), "BadRequestError", "suffix")
    fails(h, lambda: c.completions.create(model="smol", prompt=[]), "BadRequestError", "prompt")


def check_embeddings(h):
    c = client(h)
    r = c.embeddings.create(model="enc", input=["a cat", "a dog", "algebra"])
    dim = len(r.data[0].embedding)
    for d in r.data:
        want_true(abs(sum(x * x for x in d.embedding) - 1) < 1e-3, "length 1")
    raw = h.shared().post("/v1/embeddings", {"model": "enc", "input": "a cat", "encoding_format": "base64"}).json()
    floats = struct.unpack(f"<{dim}f", base64.b64decode(raw["data"][0]["embedding"]))
    want_true(max(abs(a - b) for a, b in zip(floats, r.data[0].embedding)) < 1e-6, "base64 equals float")
    short = c.embeddings.create(model="enc", input="a cat", dimensions=16, encoding_format="float").data[0].embedding
    norm = math.sqrt(sum(x * x for x in r.data[0].embedding[:16]))
    want_true(max(abs(a - b / norm) for a, b in zip(short, r.data[0].embedding)) < 1e-5, "dimensions")
    want(len(c.embeddings.create(model="enc", input="word " * 3000).data[0].embedding), dim)
    want(len(c.embeddings.create(model="smol", input=[[1, 2, 3], [4, 5]]).data), 2)
    fails(h, lambda: c.embeddings.create(model="enc", input="x", dimensions=100000), "BadRequestError", "dimensions")
    fails(h, lambda: c.embeddings.create(model="enc", input=[]), "BadRequestError", "input")
    fails(h, lambda: c.chat.completions.create(model="enc", messages=HI), "BadRequestError")
    ranked = h.shared().post("/v1/rerank", {"model": "enc", "query": "pets", "documents": ["linear algebra", "cats and dogs"], "top_n": 1, "return_documents": True}).json()
    want([x["index"] for x in ranked["results"]], [1])
    want(ranked["results"][0]["document"]["text"], "cats and dogs")


def check_refused(h):
    c = client(h)
    for extra, name in (({"foo": 1}, "foo"), ({"temperature": 3}, "temperature"), ({"temperature": "hot"}, "temperature"), ({"store": True}, "store"), ({"n": 0}, "n"),
                        ({"min_tokens": 3}, "min_tokens"), ({"top_logprobs": 2}, "top_logprobs"), ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
                        ({"audio": {}}, "audio"), ({"max_tokens": 1.5}, "max_tokens"), ({"reasoning_effort": "huge"}, "reasoning_effort")):
        fails(h, lambda: c.chat.completions.create(model="smol", messages=HI, extra_body=extra), "BadRequestError", name)
    c.chat.completions.create(model="smol", messages=HI, max_tokens=1, extra_body={"temperature": None, "store": False, "user": "u", "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1})
    why = fails(h, lambda: c.chat.completions.create(model="smol", messages=[{"role": "user", "content": "word " * 4000}]), "BadRequestError")
    want_true(why.code == "context_length_exceeded" and "2048" in str(why), why)
    fails(h, lambda: c.chat.completions.create(model="smol", messages=HI, max_tokens=5000), "BadRequestError")
    fails(h, lambda: c.chat.completions.create(model="smol", messages=[]), "BadRequestError", "messages")
    fails(h, lambda: c.chat.completions.create(model="smol", messages=[{"role": "king", "content": "x"}]), "BadRequestError")


def check_ids_and_truncation(h):
    s = h.shared()
    r = s.post("/v1/chat/completions", {"messages": HI, "max_tokens": 5, "temperature": 0, "return_token_ids": True}).json()
    m = r["choices"][0]["message"]
    want(len(m["prompt_token_ids"]), r["usage"]["prompt_tokens"])
    want(s.post("/detokenize", {"tokens": m["completion_token_ids"], "with_special": False}).json()["content"], m["content"])
    again = s.post("/v1/chat/completions", {"prompt_token_ids": m["prompt_token_ids"], "max_tokens": 5, "temperature": 0}).json()
    want(again["choices"][0]["message"]["content"], m["content"])
    long = [{"role": "user" if i % 2 == 0 else "assistant", "content": "word " * 300} for i in range(12)] + HI
    want(s.post("/v1/chat/completions", {"messages": long, "max_tokens": 5}).status, 400)
    cut = s.post("/v1/chat/completions", {"messages": long, "max_tokens": 5, "truncation": "auto"})
    want(cut.status, 200, cut.body)
    want_true(cut.json()["truncation"]["dropped_turns"] > 0, cut.body)
    text = s.post("/apply-template", {"messages": HI}).json()["prompt"]
    want_true(HI[0]["content"] in text and text.rstrip().endswith("assistant"), text)


def check_reasoning(h):
    """A prompt that ends in <think>: everything up to </think> is reasoning."""
    s = h.shared()
    body = {"messages": HI, "max_tokens": 12, "temperature": 0, "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}\n<think>\n"}
    r = s.post("/v1/chat/completions", body).json()
    want_true(r["choices"][0]["message"]["reasoning_content"], r)
    want(r["choices"][0]["message"]["content"], "")
    want_true(r["usage"]["completion_tokens_details"]["reasoning_tokens"] >= 10, r)
    events = s.post("/v1/chat/completions", body | {"stream": True}).events()
    want("".join(e["choices"][0]["delta"].get("reasoning_content", "") for e in events[:-1]), r["choices"][0]["message"]["reasoning_content"])
    want(s.post("/v1/chat/completions", body | {"reasoning_max_tokens": 4}).status, 400)     # SmolLM2 has no token </think>
    want(s.post("/v1/chat/completions", body | {"guided_choice": ["a"]}).status, 400)
    want(s.post("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "reasoning_effort": "low"}).status, 200)
    want(s.post("/v1/chat/completions", {"messages": HI, "max_tokens": 3, "chat_template_kwargs": {"enable_thinking": False}}).status, 200)


def check_document(h):
    validator = h.package("openapi_spec_validator")
    document = h.shared().get("/openapi.json").json()
    validator.validate(document)
    for path, name in (("/v1/chat/completions", "reasoning_effort"), ("/v1/completions", "echo"), ("/v1/embeddings", "dimensions"), ("/v1/messages", "max_tokens"), ("/api/chat", "keep_alive")):
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        want_true(name in schema["properties"], (path, name))
        want(schema["additionalProperties"], False)


def check_metrics(h):
    prometheus = h.package("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families as parse
    s = h.shared()
    before = s.metric("generation_tokens_total")
    s.post("/v1/completions", {"prompt": "a", "max_tokens": 5, "ignore_eos": True})
    want(s.metric("generation_tokens_total") - before, 5)
    families = {f.name: f for f in parse(s.get("/metrics").body.decode())}
    for name in ("ernie:time_to_first_token_seconds", "ernie:num_requests_running", "ernie:kv_cache_bytes", "ernie:http_requests"):
        want_true(name in families, name)
    want(families["ernie:time_to_first_token_seconds"].type, "histogram")
    want_true(prometheus is not None, "")
