"""The official client of Anthropic against the server, call by call."""
from served import Failure, want, want_true

HI = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {"name": "get_weather", "description": "Weather of a city", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}
PLAIN = {"model": "smol", "max_tokens": 24, "temperature": 0}


def client(h):
    anthropic = h.package("anthropic")
    return anthropic.Anthropic(base_url=h.shared().url, api_key="none", max_retries=0, timeout=120)


def extra(kwargs):
    """The client knows no sampling parameters any more: they go as they are."""
    known = {k: v for k, v in kwargs.items() if k not in ("temperature", "top_p", "top_k")}
    rest = {k: v for k, v in kwargs.items() if k in ("temperature", "top_p", "top_k")}
    return known | ({"extra_body": rest} if rest else {})


def create(c, **k):
    return c.messages.create(**extra(PLAIN | k))


def refused(h, kind, text, **k):
    anthropic = h.package("anthropic")
    try:
        create(client(h), **k)
    except getattr(anthropic, kind) as why:
        want(why.body["type"], "error", why.body)
        want_true(text in why.body["error"]["message"], why.body)
        want_true(why.body["request_id"], why.body)
        return why.body["error"]["type"]
    raise Failure(f"no {kind} for {k}")


def check_message(h):
    c = client(h)
    m = create(c, messages=HI)
    want((m.type, m.role, m.model, m.stop_reason, m.stop_sequence), ("message", "assistant", "smol", "end_turn", None))
    want([b.type for b in m.content], ["text"])
    want_true("Paris" in m.content[0].text, m)
    u = m.usage
    want_true(u.output_tokens > 0 and u.cache_creation_input_tokens == 0, u)
    n = c.messages.count_tokens(model="smol", messages=HI).input_tokens
    want(u.input_tokens + u.cache_read_input_tokens, n, "tokens counted beforehand")
    again = create(c, messages=[{"role": "user", "content": [{"type": "text", "text": HI[0]["content"], "cache_control": {"type": "ephemeral"}}]}])
    want(again.content[0].text, m.content[0].text)
    want_true(again.usage.cache_read_input_tokens > 0, again.usage)


def check_system(h):
    c = client(h)
    a = create(c, messages=HI, system="Answer in French.", metadata={"user_id": "u"})
    b = create(c, messages=HI, system=[{"type": "text", "text": "Answer in French.", "cache_control": {"type": "ephemeral"}}])
    want(a.content[0].text, b.content[0].text)
    n = [c.messages.count_tokens(model="smol", messages=HI, **k).input_tokens for k in ({}, {"system": "Answer in French, and at length."}, {"tools": [TOOL]})]
    want_true(n[1] != n[0] and n[2] > n[0], n)


def check_stream(h):
    """Every event in its order, and the same text as in one piece."""
    c = client(h)
    whole = create(c, messages=HI)
    events = list(create(c, messages=HI, stream=True))
    kinds = [e.type for e in events]
    want([k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]],
         ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"])
    want(events[0].message.content, [])
    want(events[0].message.stop_reason, None)
    want("".join(e.delta.text for e in events if e.type == "content_block_delta"), whole.content[0].text)
    want({e.index for e in events if e.type.startswith("content_block")}, {0})
    want(events[-2].delta.stop_reason, "end_turn")
    want(events[-2].usage.output_tokens, whole.usage.output_tokens)
    raw = h.shared().post("/v1/messages", PLAIN | {"messages": HI, "stream": True})
    want(raw.headers["Content-Type"], "text/event-stream")
    names = [line[7:] for line in raw.body.decode().splitlines() if line.startswith("event: ")]
    want([e["type"] for e in raw.events()], names)
    want(names[1], "ping")
    with c.messages.stream(**extra(PLAIN | {"messages": HI})) as s:
        want("".join(s.text_stream), whole.content[0].text)
        want(s.get_final_message().usage.output_tokens, whole.usage.output_tokens)


def check_stops(h):
    c = client(h)
    m = create(c, messages=HI, stop_sequences=["zzz", "Paris"])
    want((m.stop_reason, m.stop_sequence), ("stop_sequence", "Paris"))
    want_true("Paris" not in m.content[0].text, m)
    want(create(c, messages=HI, max_tokens=3).stop_reason, "max_tokens")
    want(create(c, messages=HI, max_tokens=3).usage.output_tokens, 3)
    e = list(create(c, messages=HI, stop_sequences=["Paris"], stream=True))
    want(e[-2].delta.stop_sequence, "Paris")


def check_tools(h):
    c = client(h)
    m = create(c, messages=HI, tools=[TOOL], tool_choice={"type": "any", "disable_parallel_tool_use": True}, max_tokens=80)
    want([b.type for b in m.content], ["tool_use"])
    use = m.content[0]
    want((m.stop_reason, use.name, list(use.input)), ("tool_use", "get_weather", ["city"]))
    want(create(c, messages=HI, tools=[TOOL], tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=80).content[0].name, "get_weather")
    turn = [*HI, {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in m.content]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Sunny, 20 C"}]}]}]
    want_true(create(c, messages=turn, tools=[TOOL], tool_choice={"type": "none"}).content[0].type == "text", "an answer after the result")
    turn[-1]["content"][0] |= {"content": "no such city", "is_error": True}
    create(c, messages=turn, tools=[TOOL])
    turn[-1]["content"][0]["tool_use_id"] = "unknown"
    refused(h, "BadRequestError", "tool_use_id", messages=turn)
    refused(h, "BadRequestError", "weather", messages=HI, tools=[TOOL], tool_choice={"type": "tool", "name": "weather"})


def check_tool_stream(h):
    c = client(h)
    with c.messages.stream(**extra(PLAIN | {"messages": HI, "tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "max_tokens": 80})) as s:
        events = list(s)
        final = s.get_final_message()
    want(final.content[0].type, "tool_use")
    deltas = [e.delta for e in events if e.type == "content_block_delta"]
    want({d.type for d in deltas}, {"input_json_delta"})
    want(list(final.content[0].input), ["city"])


def check_schema(h):
    schema = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 12}}, "required": ["capital"], "additionalProperties": False}
    r = h.shared().post("/v1/messages", PLAIN | {"messages": HI, "max_tokens": 60, "output_config": {"format": {"type": "json_schema", "schema": schema}}})
    want(r.status, 200, r.body)
    import json
    want(list(json.loads(r.json()["content"][0]["text"])), ["capital"])


def check_thinking(h):
    """Thoughts of earlier turns are taken; a model that does not think answers without."""
    c = client(h)
    past = [*HI, {"role": "assistant", "content": [{"type": "thinking", "thinking": "Easy.", "signature": "x"}, {"type": "text", "text": "Paris."}]},
            {"role": "user", "content": "And of Spain?"}]
    m = create(c, messages=past, thinking={"type": "enabled", "budget_tokens": 8})
    want([b.type for b in m.content], ["text"])
    create(c, messages=past, thinking={"type": "disabled"})
    create(c, messages=past, thinking={"type": "adaptive"})
    refused(h, "BadRequestError", "budget_tokens", messages=HI, thinking={"type": "enabled", "budget_tokens": 24})


def check_errors(h):
    s = h.shared()
    want(refused(h, "NotFoundError", "nope", messages=HI, model="nope"), "not_found_error")
    for text, k in [("image", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}]}]}),
                    ("document", {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}]}]}),
                    ("web_search_20250305", {"messages": HI, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
                    ("assistant", {"messages": [*HI, {"role": "assistant", "content": "The"}]}),
                    ("temperature", {"messages": HI, "temperature": 3}), ("top_p", {"messages": HI, "top_p": -1}),
                    ("messages.0.role", {"messages": [{"role": "tool", "content": "x"}]}),
                    ("messages", {"messages": []}), ("container", {"messages": HI, "container": "c"}),
                    ("service_tier", {"messages": HI, "service_tier": "priority"})]:
        want(refused(h, "BadRequestError", text, **k), "invalid_request_error")
    for body in [{"model": "smol", "messages": HI}, {"max_tokens": 3, "messages": HI}, {"model": "smol", "max_tokens": 0, "messages": HI}, b"{", b"[]", b""]:
        r = s.post("/v1/messages", body)
        want((r.status, r.json()["type"], r.json()["error"]["type"]), (400, "error", "invalid_request_error"), r.body)
    long = s.post("/v1/messages", PLAIN | {"messages": [{"role": "user", "content": "word " * 4000}]})
    want_true(long.status == 400 and "2048" in long.json()["error"]["message"], long.body)
    want(s.post("/v1/messages/count_tokens", {"model": "enc", "messages": HI}).status >= 400, True)


def check_refusals_before_the_handler(h):
    """Keys, sizes and methods: each API hears of them in its own words."""
    keys = h.tmp / "keys.json"
    keys.write_text('{"keys": [{"name": "a", "key": "sk-good-one", "scopes": ["chat"]}]}')
    s = h.start(f"smol={h.real()}", "--keys", keys)
    try:
        anthropic = h.package("anthropic")
        bad, good = (anthropic.Anthropic(base_url=s.url, api_key=k, max_retries=0) for k in ("sk-bad-one", "sk-good-one"))
        try:
            create(bad, messages=HI)
            raise Failure("a wrong key was let in")
        except anthropic.AuthenticationError as why:
            want(why.body["error"]["type"], "authentication_error")
        want(create(good, messages=HI, max_tokens=2).role, "assistant")
        try:
            good.messages.count_tokens(model="smol", messages=HI)
            raise Failure("a scope was not asked for")
        except anthropic.PermissionDeniedError as why:
            want(why.body["error"]["type"], "permission_error")
        r = s.post("/api/chat", {"model": "smol"})
        want((r.status, type(r.json()["error"])), (401, str), r.body)
        want(s.get("/v1/messages").json()["type"], "error")
    finally:
        s.close()
