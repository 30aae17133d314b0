"""The Responses API through OpenAI's official client: every call, every event, and what is stored outliving the process."""
import json
import signal
import time

from served import Failure, want, want_true

HI = "What is the capital of France?"
PLAIN = {"model": "smol", "max_output_tokens": 24, "temperature": 0}
TOOL = {"type": "function", "name": "get_weather", "description": "Weather of a city", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}}


def client(h, server=None):
    openai = h.package("openai")
    return openai.OpenAI(base_url=(server or h.shared()).url + "/v1", api_key="none", max_retries=0, timeout=120)


def create(c, **k):
    return c.responses.create(**PLAIN | k)


def refused(h, kind, param, **k):
    openai = h.package("openai")
    try:
        create(client(h), **{"input": HI} | k)
    except getattr(openai, kind) as why:
        if param:
            want_true((why.body.get("param") or "").startswith(param), why.body)
        return
    raise Failure(f"no {kind} for {k}")


def check_create(h):
    c = client(h)
    r = create(c, input=HI, metadata={"a": "b"}, user="u", instructions="Be brief.")
    want((r.object, r.status, r.model, r.error, r.incomplete_details), ("response", "completed", "smol", None, None))
    want([i.type for i in r.output], ["message"])
    want_true("Paris" in r.output_text, r)
    want((r.metadata, r.user, r.instructions, r.store, r.temperature), ({"a": "b"}, "u", "Be brief.", True, 0))
    want(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens)
    cut = create(c, input=HI, max_output_tokens=3)
    want((cut.status, cut.incomplete_details.reason, cut.output[0].status), ("incomplete", "max_output_tokens", "incomplete"))
    items = [{"role": "developer", "content": "Be brief."}, {"type": "message", "role": "user", "content": [{"type": "input_text", "text": HI}]}]
    want(create(c, input=items).output_text, r.output_text)


def check_state(h):
    """A conversation of three turns by previous_response_id is the same as all of it at once."""
    c = client(h)
    first = create(c, input=HI, instructions="Be brief.")
    second = create(c, input="And of Spain?", previous_response_id=first.id)
    want(second.previous_response_id, first.id)
    third = create(c, input="And of Italy?", previous_response_id=second.id)
    whole = create(c, input=[{"role": "user", "content": HI}, *[i.model_dump(exclude_none=True) for i in first.output], {"role": "user", "content": "And of Spain?"},
                             {"role": "assistant", "content": second.output_text}, {"role": "user", "content": "And of Italy?"}], store=False)
    want((third.output_text, third.usage.input_tokens), (whole.output_text, whole.usage.input_tokens))
    want_true(third.usage.input_tokens_details.cached_tokens > first.usage.input_tokens // 2, third.usage)
    got = c.responses.retrieve(third.id)
    want(got.model_dump(), third.model_dump())
    items = list(c.responses.input_items.list(third.id, order="asc", limit=2))
    want([i.content[0].text for i in items], [HI, first.output_text, "And of Spain?", second.output_text, "And of Italy?"])
    want(c.responses.input_items.list(third.id).data[0].content[0].text, "And of Italy?")
    c.responses.delete(second.id)
    openai = h.package("openai")
    for fn in (lambda: c.responses.retrieve(second.id), lambda: c.responses.retrieve(whole.id), lambda: c.responses.delete(second.id),
               lambda: create(c, input="x", previous_response_id=second.id), lambda: create(c, input="x", previous_response_id=third.id),
               lambda: c.responses.input_items.list("resp_none"), lambda: c.responses.cancel("resp_none")):
        try:
            fn()
        except openai.NotFoundError:
            continue
        raise Failure("a deleted response is still there")


def check_stream(h):
    c = client(h)
    whole = create(c, input=HI, top_logprobs=1)
    events = list(create(c, input=HI, stream=True, top_logprobs=1))
    want([e.sequence_number for e in events], list(range(len(events))))
    kinds = [e.type.removeprefix("response.") for e in events]
    want([k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]],
         ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"])
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    done = next(e for e in events if e.type == "response.output_text.done")
    want((text, done.text, events[-1].response.output_text), (whole.output_text,) * 3)
    want(len(done.logprobs), len(whole.output[0].content[0].logprobs))
    want("".join(x.token for x in done.logprobs), text)
    want({e.item_id for e in events if hasattr(e, "item_id")}, {events[-1].response.output[0].id})
    want((events[0].response.status, events[0].response.output, events[-1].response.status), ("in_progress", [], "completed"))
    want(c.responses.retrieve(events[0].response.id).output_text, text)
    cut = list(create(c, input=HI, stream=True, max_output_tokens=3))
    want((cut[-1].type, cut[-1].response.status), ("response.incomplete", "incomplete"))
    with c.responses.stream(**PLAIN | {"input": HI}) as s:
        for _ in s:
            pass
        want(s.get_final_response().output_text, text)
    raw = h.shared().post("/v1/responses", PLAIN | {"input": HI, "stream": True})
    names = [line[7:] for line in raw.body.decode().splitlines() if line.startswith("event: ")]
    want([e["type"] for e in raw.events()], names)


def check_tools(h):
    c = client(h)
    asked = {"input": HI, "tools": [TOOL], "max_output_tokens": 80, "parallel_tool_calls": False}
    r = create(c, **asked, tool_choice="required")
    want([i.type for i in r.output], ["function_call"])
    call = r.output[0]
    want((call.name, list(json.loads(call.arguments)), call.status), ("get_weather", ["city"], "completed"))
    want(create(c, **asked, tool_choice={"type": "function", "name": "get_weather"}).output[0].name, "get_weather")
    after = create(c, input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}], previous_response_id=r.id, tools=[TOOL], tool_choice="none")
    want(after.output[0].type, "message")
    events = list(create(c, **asked, tool_choice="required", stream=True))
    kinds = [e.type.removeprefix("response.") for e in events]
    want(kinds, ["created", "in_progress", "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed"])
    want("".join(e.delta for e in events if e.type.endswith("arguments.delta")), events[-1].response.output[0].arguments)
    refused(h, "BadRequestError", "input", input=[{"type": "function_call_output", "call_id": "none", "output": "x"}])
    refused(h, "BadRequestError", "tools[0]", tools=[{"type": "web_search"}])
    refused(h, "BadRequestError", "tool_choice", tools=[TOOL], tool_choice={"type": "file_search"})


def check_format(h):
    schema = {"type": "object", "properties": {"capital": {"type": "string", "maxLength": 12}}, "required": ["capital"], "additionalProperties": False}
    c = client(h)
    r = create(c, input=HI, max_output_tokens=60, text={"format": {"type": "json_schema", "name": "x", "strict": True, "schema": schema}})
    want(list(json.loads(r.output_text)), ["capital"])
    want(r.text.format.name, "x")
    json.loads(create(c, input=HI + " As JSON: {\"a\": 1}", max_output_tokens=400, text={"format": {"type": "json_object"}}).output_text)
    refused(h, "BadRequestError", "text.format", text={"format": {"type": "yaml"}})


def check_reasoning(h):
    """A template that begins with a thought: reasoning has its own item and events; earlier thoughts are taken."""
    path = h.tmp / "think.jinja"
    path.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n")
    s = h.start(f"smol={h.real()}", "--template", path)
    try:
        c = client(h, s)
        events = list(create(c, input=HI, stream=True, reasoning={"effort": "high"}))
        want(s.post("/v1/responses", PLAIN | {"input": HI, "reasoning": {"effort": "low"}}).status, 200, "an effort is a wish where no token ends thinking")
        kinds = [e.type.removeprefix("response.") for e in events]
        want([k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]],
             ["created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done",
              "output_item.done", "completed" if kinds[-1] == "completed" else "incomplete"])
        item = events[-1].response.output[0]
        want((item.type, item.content[0].type), ("reasoning", "reasoning_text"))
        want("".join(e.delta for e in events if e.type.endswith("reasoning_text.delta")), item.content[0].text)
        want_true(events[-1].response.usage.output_tokens_details.reasoning_tokens > 0, events[-1].response.usage)
        create(c, input="And of Spain?", previous_response_id=events[-1].response.id)
        m = s.post("/v1/messages", {"model": "smol", "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": HI}], "stream": True}).events()
        want(m[2]["content_block"]["type"], "thinking")
        deltas = [e["delta"]["type"] for e in m if e["type"] == "content_block_delta"]
        want((set(deltas[:-1]), deltas[-1]), ({"thinking_delta"}, "signature_delta"))
        whole = s.post("/v1/messages", {"model": "smol", "max_tokens": 12, "temperature": 0, "messages": [{"role": "user", "content": HI}]}).json()
        want(whole["content"][0]["thinking"], "".join(e["delta"].get("thinking", "") for e in m if e["type"] == "content_block_delta"))
        o = s.post("/api/chat", {"model": "smol", "stream": False, "options": {"num_predict": 12, "temperature": 0}, "messages": [{"role": "user", "content": HI}]}).json()
        want((o["message"]["thinking"], o["message"]["content"]), (whole["content"][0]["thinking"], ""))
    finally:
        s.close()


def settled(c, r, limit_s=60):
    until = time.time() + limit_s
    while r.status in ("queued", "in_progress") and time.time() < until:
        time.sleep(0.1)
        r = c.responses.retrieve(r.id)
    return r


def check_background(h):
    c = client(h)
    r = create(c, input=HI, background=True)
    want_true(r.status in ("queued", "in_progress") and not r.output, r)
    r = settled(c, r)
    want(r.status, "completed")
    want(r.output_text, create(c, input=HI).output_text)
    long = create(c, input="Tell a very long story.", background=True, max_output_tokens=1500)
    want_true(c.responses.cancel(long.id).status in ("cancelled", "in_progress"), "cancelled")
    want(settled(c, c.responses.retrieve(long.id)).status, "cancelled")
    c.responses.delete(long.id)
    refused(h, "BadRequestError", "background", background=True, store=False)


def check_killed(h):
    """kill -9: what was said to be complete is there, what was being written says that it failed."""
    path = h.tmp / "responses.db"
    s = h.start(f"smol={h.real()}", "--store", path)
    c = client(h, s)
    kept = [create(c, input=f"{i} and what?", max_output_tokens=4) for i in range(5)]
    open_one = create(c, input="Tell a very long story.", background=True, max_output_tokens=1500)
    s.close(signal.SIGKILL, code=None)
    want(path.stat().st_mode & 0o077, 0, "rights of the file")
    s = h.start(f"smol={h.real()}", "--store", path)
    try:
        c = client(h, s)
        for r in kept:
            want(c.responses.retrieve(r.id).output_text, r.output_text)
        lost = c.responses.retrieve(open_one.id)
        want((lost.status, lost.error.code), ("failed", "server_error"))
        create(c, input="Go on.", previous_response_id=kept[-1].id)
    finally:
        s.close()


def check_truncation(h):
    c = client(h)
    items = []
    for i in range(12):
        items += [{"role": "user", "content": f"{i} " + "word " * 200}, {"role": "assistant", "content": "Yes."}]
    items += [{"role": "user", "content": HI}]
    refused(h, "BadRequestError", None, input=items)
    r = create(c, input=items, truncation="auto")
    want_true(r.status in ("completed", "incomplete") and r.dropped_turns > 0 and r.usage.input_tokens < 2048, r)


def check_refused(h):
    for param, k in [("include", {"include": ["file_search_call.results"]}), ("conversation", {"conversation": "c"}), ("max_tool_calls", {"max_tool_calls": 1}),
                     ("prompt", {"prompt": {"id": "p"}}), ("metadata", {"metadata": {str(i): "x" for i in range(17)}}), ("temperature", {"temperature": 3}),
                     ("reasoning.summary", {"reasoning": {"summary": "detailed"}}), ("reasoning.effort", {"reasoning": {"effort": "huge"}}),
                     ("service_tier", {"service_tier": "flex"}), ("truncation", {"truncation": "middle"}), ("what", {"extra_body": {"what": 1}}),
                     ("input[0]", {"input": [{"type": "web_search_call", "id": "x"}]}), ("input[0]", {"input": [{"role": "robot", "content": "x"}]}),
                     ("input[0]", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}), ("input", {"input": []})]:
        refused(h, "BadRequestError", param, **k)
    refused(h, "NotFoundError", None, model="nope")
    refused(h, "NotFoundError", "previous_response_id", previous_response_id="resp_none")
    s = h.shared()
    want(s.post("/v1/responses", {"model": "smol"}).json()["error"]["param"], "input")
    want(s.get("/v1/responses/x?stream=true").status, 400)
    want(s.get("/v1/responses/x/input_items?limit=0").status, 400)
