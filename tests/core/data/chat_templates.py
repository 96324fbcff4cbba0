"""Chat templates as published models have them, shortened to what matters here, and some that no model should have."""

from __future__ import annotations

_LOOP = "{% for m in messages %}"
_END = "{% endfor %}"

CHATML = (
    _LOOP + "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}" + _END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # fmt: skip
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for m in loop_messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}" + _END
)
MISTRAL = (
    "{{ bos_token }}" + _LOOP
    + "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}" + _END
)  # fmt: skip
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + _LOOP + "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}" + _END
    + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)  # fmt: skip
LLAMA_3 = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token }}{{ '<|start|>system<|end|>\n\nToday Date: ' + date_string + '\n\n<|eot|>' }}" + _LOOP
    + "{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim + '<|eot|>' }}" + _END
    + "{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)  # fmt: skip
QWEN_3 = (
    _LOOP + "{% set content = m['content'] %}{% set thought = '' %}"
    "{% if m['role'] == 'assistant' and '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ content + '<|im_end|>\n' }}" + _END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)  # fmt: skip
VICUNA = (
    _LOOP + "{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}{% elif m['role'] == 'user' %}"
    "{{ 'USER: ' + m['content'] + ' ' }}{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}" + _END
    + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)  # fmt: skip
SYSTEM_LAST = (
    _LOOP + "{% if m['role'] != 'system' %}{{ '[' + m['role'] + ']' + m['content'] + eos_token }}{% endif %}" + _END
    + _LOOP + "{% if m['role'] == 'system' %}{{ '[rules]' + m['content'] }}{% endif %}" + _END
)  # fmt: skip
SYSTEM_LAST_LOUD = SYSTEM_LAST.replace("'[rules]' + m['content']", "'[rules]' + m['content'] | upper")
MARKED = (
    _LOOP + "{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}" + _END
)  # fmt: skip
OPENS_A_THOUGHT = (
    _LOOP + "{{ m['role'] + ':' + m['content'] + ';' }}" + _END
    + "{% if add_generation_prompt %}assistant:<think>{% endif %}"
)  # fmt: skip
NOTHING_BETWEEN = _LOOP + "{{ m['content'] }}" + _END
IN_PAIRS = (
    _LOOP + "{% if m['role'] == 'assistant' %}{{ 'Q: ' + messages[loop.index0 - 1]['content'] + '\nA: ' + m['content']"
    " + '\n' }}{% endif %}" + _END
)  # fmt: skip
SHOUTS = _LOOP + "{{ m['role'] + ': ' + m['content'] | upper + '\n' }}" + _END

SOUND = {
    "chatml": (CHATML, "<|im_end|>\n"),
    "llama-2": (LLAMA_2, " </s>"),
    "mistral": (MISTRAL, "</s>"),
    "gemma": (GEMMA, "<end_of_turn>\n"),
    "llama-3": (LLAMA_3, "<|eot|>"),
    "qwen-3": (QWEN_3, "<|im_end|>\n"),
    "vicuna": (VICUNA, "</s>"),
    "system-last": (SYSTEM_LAST, "</s>"),
    "system-last-loud": (SYSTEM_LAST_LOUD, "</s>"),
    "marked": (MARKED, "</s>"),
    "opens-a-thought": (OPENS_A_THOUGHT, ";"),
    "nothing-between": (NOTHING_BETWEEN, ""),
    "in-pairs": (IN_PAIRS, "\n"),
}
"""By name: the template, and what it writes to end a turn of the assistant."""
