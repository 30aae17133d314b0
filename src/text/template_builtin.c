/* The four ERNIE 4.5 chat templates for folders that bring none, each written as one Jinja text. */
#include "text/template.h"

#include <string.h>

/* Text models: BEGIN, system and a newline, "User: ", "Assistant: " ... END; the generation prompt is on unless refused. */
static const char ernie[] =
    "{%- if add_generation_prompt is not defined -%}{%- set add_generation_prompt = true -%}{%- endif -%}\n"
    "{{- cls_token | default('<|begin_of_sentence|>') -}}\n"
    "{%- for m in messages -%}\n"
    "{%- if m.role == 'system' -%}{{- m.content + '\\n' -}}\n"
    "{%- elif m.role == 'user' -%}{{- 'User: ' + m.content + '\\n' -}}\n"
    "{%- elif m.role == 'assistant' -%}{{- 'Assistant: ' + m.content + sep_token | default('<|end_of_sentence|>') -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- 'Assistant: ' -}}{%- endif -%}\n";

#define VISION_PARTS                                                                                                    \
    "{%- set n = namespace(image=0, video=0) -%}\n"                                                                     \
    "{%- macro parts(content) -%}\n"                                                                                    \
    "{%- if content is string -%}{{- content -}}\n"                                                                     \
    "{%- else -%}{%- for p in content or [] -%}\n"                                                                      \
    "{%- if p.type == 'text' -%}{{- p.text -}}\n"                                                                       \
    "{%- elif p.type in ('image', 'image_url') -%}{%- set n.image = n.image + 1 -%}\n"                                  \
    "{{- 'Picture ' ~ n.image ~ ':<|IMAGE_START|><|image@placeholder|><|IMAGE_END|>' -}}\n"                             \
    "{%- elif p.type in ('video', 'video_url') -%}{%- set n.video = n.video + 1 -%}\n"                                  \
    "{{- 'Video ' ~ n.video ~ ':<|VIDEO_START|><|video@placeholder|><|VIDEO_END|>' -}}\n"                               \
    "{%- else -%}{{- raise_exception('unknown part: ' ~ p.type) -}}{%- endif -%}\n"                        \
    "{%- endfor -%}{%- endif -%}\n"                                                                                     \
    "{%- endmacro -%}\n"

/* Vision models: pictures and videos counted through the conversation; thinking is asked for with enable_thinking. */
static const char ernie_vl[] =
    VISION_PARTS
    "{{- cls_token | default('<|begin_of_sentence|>') -}}\n"
    "{%- for m in messages -%}\n"
    "{%- if m.role == 'system' -%}{{- parts(m.content) ~ '\\n' -}}\n"
    "{%- elif m.role == 'user' -%}{{- 'User: ' ~ parts(m.content) -}}\n"
    "{%- elif m.role == 'assistant' -%}{{- '\\nAssistant: ' -}}\n"
    "{%- if m.reasoning_content -%}{{- '<think>\\n' ~ m.reasoning_content ~ '\\n</think>\\n' -}}{%- endif -%}\n"
    "{{- parts(m.content) ~ sep_token | default('<|end_of_sentence|>') -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt is not defined or add_generation_prompt -%}{{- '\\nAssistant: ' -}}\n"
    "{%- set mode = (options | default({})).thinking_mode -%}\n"
    "{%- if mode == 'open' or (mode is not defined and enable_thinking is defined and enable_thinking) -%}\n"
    "{{- '<think>' -}}\n"
    "{%- else -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}\n";

#define TOOL_LIST                                                                                                       \
    "{%- for t in tools -%}{{- t | tojson -}}{%- if not loop.last -%}{{- ', ' -}}{%- endif -%}{%- endfor -%}"

#define TOOL_CALLS                                                                                                      \
    "{%- for c in m.tool_calls or [] -%}{%- set f = c.function if c.function is defined else c -%}\n"                   \
    "{{- '\\n<tool_call>\\n{\"name\": ' ~ f.name | tojson ~ ', \"arguments\": ' ~\n"                                    \
    "    (f.arguments if f.arguments is string else f.arguments | tojson) ~ '}\\n</tool_call>\\n' -}}\n"                \
    "{%- endfor -%}\n"

/* The thinking vision model: a system text of its own, thinking on unless options.thinking_mode closes it, tools. */
static const char ernie_vl_thinking[] =
    VISION_PARTS
    "{%- set mode = (options | default({})).thinking_mode | default(enable_thinking | default(true)) -%}\n"
    "{%- set thinks = mode == true or mode in ('open', 'true') -%}\n"
    "{%- set s = namespace(text='You are a multimodal AI assistant called ERNIE developed by Baidu based on the "
    "PaddlePaddle framework.') -%}\n"
    "{%- for m in messages if m.role == 'system' -%}{%- set s.text = parts(m.content) -%}{%- endfor -%}\n"
    "{{- cls_token | default('<|begin_of_sentence|>') ~ s.text ~ '\\n' -}}\n"
    "{%- if tools -%}{{- '<tool_list>\\n[' -}}" TOOL_LIST "{{- ']\\n</tool_list>\\n' -}}{%- endif -%}\n"
    "{%- for m in messages -%}\n"
    "{%- if m.role == 'user' -%}{{- 'User: ' ~ parts(m.content) -}}\n"
    "{%- elif m.role == 'tool' -%}{{- 'User: <tool_output>\\n' ~ parts(m.content) ~ '\\n</tool_output>\\n' -}}\n"
    "{%- elif m.role == 'assistant' -%}{{- '\\nAssistant: ' -}}\n"
    "{%- if m.reasoning_content -%}{{- '\\n<think>\\n' ~ m.reasoning_content ~ '\\n</think>\\n\\n' -}}{%- endif -%}\n"
    "{{- parts(m.content) -}}\n" TOOL_CALLS
    "{{- sep_token | default('<|end_of_sentence|>') -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt is not defined or add_generation_prompt -%}{{- '\\nAssistant: \\n<think>\\n' -}}\n"
    "{%- if not thinks -%}{{- '\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}\n";

/* The thinking text model: chatml with settings, tools and always a reasoning to come. */
static const char ernie_thinking[] =
    "{%- set s = namespace(text='') -%}\n"
    "{%- for m in messages if m.role == 'system' -%}{%- set s.text = s.text ~ m.content -%}{%- endfor -%}\n"
    "{{- '<|im_start|>system\\n' -}}\n"
    "{%- if s.text -%}{{- '<system_setting>\\n' ~ s.text ~ '\\n</system_setting>\\n\\n' -}}{%- endif -%}\n"
    "{{- '<global_setting>\\nthink_mode=True\\n</global_setting>' -}}\n"
    "{%- if tools -%}{{- '\\n<tool_list>\\n[' -}}" TOOL_LIST "{{- ']\\n</tool_list>\\n' -}}{%- endif -%}\n"
    "{{- '<|im_end|>\\n\\n' -}}\n"
    "{%- for m in messages -%}\n"
    "{%- if m.role == 'user' -%}{{- '<|im_start|>user\\n' ~ m.content ~ '<|im_end|>\\n\\n' -}}\n"
    "{%- elif m.role == 'tool' -%}\n"
    "{{- '<|im_start|>user\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response><|im_end|>\\n\\n' -}}\n"
    "{%- elif m.role == 'assistant' -%}{{- '<|im_start|>assistant\\n' -}}\n"
    "{%- if m.reasoning_content is string -%}\n"
    "{{- '<think>\\n' ~ m.reasoning_content | trim ~ '\\n</think>\\n' -}}{%- endif -%}\n"
    "{%- if m.content or not m.tool_calls -%}\n"
    "{{- '<response>\\n' ~ (m.content or '') ~ '\\n</response>\\n' -}}{%- endif -%}\n"
    TOOL_CALLS
    "{{- '<|im_end|>\\n\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt is not defined or add_generation_prompt -%}\n"
    "{{- '<|im_start|>assistant\\n<think>\\n' -}}{%- endif -%}\n";

const char *template_builtin(const char *family) {
    static const struct { const char *name, *text; } all[] = {
        { "ernie", ernie }, { "ernie-vl", ernie_vl }, { "ernie-vl-thinking", ernie_vl_thinking },
        { "ernie-thinking", ernie_thinking },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, family) == 0) return all[i].text;
    return NULL;
}
