"""A process that renders conversations with a chat template, which is untrusted code of the model's author.

Run as a script by :mod:`qpruner_core.data.chat_process`, it reads one JSON object per line and writes one for each. It
imports neither torch nor this package, so that it starts within a second. transformers does the rendering.
"""

from __future__ import annotations

import datetime
import json
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Message = dict[str, Any]
Render = Callable[..., str]
Span = tuple[int, int]

MOST_TURNS = 64
"""Most turns of one conversation that are searched one by one, from the last."""
_FOLDED_ROLES = ("system", "developer")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_WORD = re.compile(r"\w+")
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class Located:
    """A rendered conversation: text, spans of characters to learn, and the number of answers that were not found."""

    def __init__(self, text: str, spans: Sequence[Span], lost: int) -> None:
        self.text = text
        self.spans = [span for span in spans if span[0] < span[1]]
        self.lost = lost


def locate_answers(messages: Sequence[Message], render: Render) -> Located:
    """Render ``messages`` and find each turn of the assistant in the text, with the end of the turn.

    ``render(messages, add_generation_prompt=False)`` is the template. To find an answer, the conversation is rendered
    again with a mark in its place: the text around the mark is the text around the answer. Where that fails (some
    templates treat an answer by its content), the answer is the text that its turn adds to the conversation before it.
    An answer that neither way finds is not learned.
    """
    whole = render(messages)
    answers = [index for index, message in enumerate(messages) if _is_answer(message)]
    mark = _unused_mark(messages)
    spans = _all_at_once(messages, answers, whole, render, mark)
    if spans is not None:
        return Located(whole, spans, 0)
    found: list[Span] = []
    for index in answers[-MOST_TURNS:]:
        span = _by_mark(messages, index, whole, render, mark) or _by_prefix(messages, index, whole, render, mark)
        if span is not None and not _has_calls(messages[index], whole[slice(*span)]):
            continue  # only the end of the turn is left
        if span is not None and (not found or found[-1][1] <= span[0]):
            found.append(span)
    return Located(whole, found, len(answers) - len(found))


def fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """``messages`` with each system message prepended to the next user message; ``None`` if there is none."""
    folded: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] in _FOLDED_ROLES:
            waiting.append(str(message.get("content") or ""))
        elif message["role"] == "user" and waiting:
            folded.append({**message, "content": "\n\n".join([*waiting, str(message.get("content") or "")])})
            waiting = []
        else:
            folded.append(message)
    if waiting and any(message["role"] == "user" for message in folded):
        return None
    return [{"role": "user", "content": "\n\n".join(waiting)}, *folded] if waiting else folded


def _is_answer(message: Message) -> bool:
    said = str(message.get("content") or "").strip() or message.get("tool_calls")
    return message["role"] == "assistant" and bool(said)


def _has_calls(message: Message, text: str) -> bool:
    """Whether every tool call of ``message`` is in ``text``; a template without tool support leaves them out."""
    return all(call["function"]["name"] in text for call in message.get("tool_calls") or ())


def _leaves_out(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], text: str) -> bool:
    """Whether a tool's name, or the longest word of a question or of the last thought, is missing from ``text``."""
    names = [str(tool.get("function", {}).get("name", "")) for tool in tools]
    said = [str(message.get("content") or "") for message in messages if message["role"] != "assistant"]
    said += [str(messages[-1][name]) for name in _THOUGHTS if name in messages[-1]][:1]
    words = [max((word.group() for word in _WORD.finditer(one)), key=len, default="") for one in said]
    place = 0  # most are in order; searching from the start each time would take quadratic time
    for word in (*names, *words):
        found = text.find(word, place)
        if found < 0 and word not in text:
            return True
        place = max(place, found)
    return False


def _unused_mark(messages: Sequence[Message]) -> str:
    text = json.dumps(messages, ensure_ascii=False)
    return next(mark for mark in (f"zqx{number}answer" for number in range(len(text) + 1)) if mark not in text)


def _marked(message: Message, mark: str) -> Message:
    return {"role": message["role"], "content": mark}


def _all_at_once(
    messages: Sequence[Message], answers: Sequence[int], whole: str, render: Render, mark: str
) -> list[Span] | None:
    """Spans of all answers from one more rendering, or ``None`` if the template does not insert them unchanged."""
    if any(set(messages[index]) - {"role", "content"} for index in answers):
        return None
    marks = {index: f"{mark}{index}z" for index in answers}
    try:
        rest = render([_marked(one, marks[index]) if index in marks else one for index, one in enumerate(messages)])
    except Exception:  # noqa: BLE001 - the template may raise anything, and the other way of looking is left
        return None
    gaps = []
    place = 0  # without copying the rest once per answer
    for index in answers:
        found = rest.find(marks[index], place)
        if found < 0:
            return None
        gaps.append(rest[place:found])
        place = found + len(marks[index])
    rest = rest[place:]
    gaps.append(rest)
    if any(mark in gap for gap in gaps) or not whole.startswith(gaps[0]):
        return None
    starts = []
    position = len(gaps[0])
    for index, gap in zip(answers, gaps[1:], strict=True):
        after = position
        for text in _forms(str(messages[index]["content"])):
            if whole.startswith(text + gap, position):
                after = position + len(text)
                break
        else:
            return None
        starts.append((position, after))
        position = after + len(gap)
    if position != len(whole):
        return None
    ending = _own_ending(messages, answers[-1], rest, render, mark) if answers else ""
    return [
        (start, end + _ending_length(messages, index, gap, ending, render, mark))
        for index, (start, end), gap in zip(answers, starts, gaps[1:], strict=True)
    ]


def _forms(content: str) -> Iterator[str]:
    """Forms in which templates write an answer: unchanged, stripped, or without its thoughts."""
    yield from dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip()))
    if "</think>" in content:
        thought_out = content.split("</think>")[-1]
        yield from dict.fromkeys((thought_out, thought_out.lstrip("\n"), thought_out.strip()))


def _own_ending(messages: Sequence[Message], last: int, rest: str, render: Render, mark: str) -> str:
    """The part of ``rest``, which follows the last answer, before any other message (some templates write the system
    message last).

    Text that stays the same with marks in place of all messages is the template's own.
    """
    own = f"{mark}{last}z"
    marked = [_marked(one, f"{mark}{index}z") for index, one in enumerate(messages[: last + 1])]
    with_marks = _after_mark(marked, render, own)
    if with_marks == rest:
        return rest
    talk = [index for index in range(last) if messages[index]["role"] not in _FOLDED_ROLES]
    without_system = _after_mark([*(messages[index] for index in talk), marked[last]], render, own)
    all_marked = _after_mark([*(marked[index] for index in talk), marked[last]], render, own)
    if without_system is not None and without_system == all_marked and rest.startswith(without_system):
        return without_system
    if with_marks is not None:
        return rest[: _common_length(rest, with_marks)]
    others = (str(message.get("content") or "").strip().lower() for message in messages[:last])
    return "" if any(text and text in rest.lower() for text in others) else rest


def _after_mark(messages: Sequence[Message], render: Render, mark: str) -> str | None:
    try:
        text = render(messages)
    except Exception:  # noqa: BLE001 - as above
        return None
    return text.rpartition(mark)[2] if mark in text else None


def _ending_length(
    messages: Sequence[Message], index: int, gap: str, last_ending: str | None, render: Render, mark: str
) -> int:
    """Length of the part of ``gap``, the text after an answer, that ends its turn: what the template writes if nothing
    follows.

    ``last_ending`` is the end of the last turn if known; other turns usually end alike.
    """
    if last_ending is not None and gap.startswith(last_ending):
        return len(last_ending)
    rest = _after_mark([*messages[:index], _marked(messages[index], mark)], render, mark)
    own = "" if rest is None else _own_ending(messages, index, rest, render, mark)
    return len(own) if gap.startswith(own) else 0


def _by_mark(messages: Sequence[Message], index: int, whole: str, render: Render, mark: str) -> Span | None:
    """Span of one answer, in any form, if the text around it stays the same."""
    try:
        text = render([*messages[:index], _marked(messages[index], mark), *messages[index + 1 :]])
    except Exception:  # noqa: BLE001 - as above
        return None
    before, found, after = text.partition(mark)
    end = len(whole) - len(after)
    if not found or mark in after or not (whole.startswith(before) and whole.endswith(after) and len(before) < end):
        return None
    content = str(messages[index].get("content") or "").strip()
    written = whole[len(before) : end].strip()
    if not written or not (content in written or written in content):
        return None
    return len(before), end + _ending_length(messages, index, after, None, render, mark)


def _by_prefix(messages: Sequence[Message], index: int, whole: str, render: Render, mark: str) -> Span | None:
    """Span that the turn adds to the conversation before it, if the template appends turn by turn."""
    try:
        before = render(messages[:index]) if index else ""
        after = render(messages[: index + 1])
        if index and mark not in render([*messages[: index - 1], _marked(messages[index - 1], mark)]):
            return None  # the message before is only written with the answer
    except Exception:  # noqa: BLE001 - as above
        return None
    if not (whole.startswith(before) and whole.startswith(after) and len(before) < len(after)):
        return None
    try:  # a generation prompt may open a thought, which a finished turn lacks
        prompted = render(messages[:index], add_generation_prompt=True)
    except Exception:  # noqa: BLE001 - as above
        prompted = before
    start = max(len(before), _common_length(prompted, after))
    return (start, len(after)) if start < len(after) else None


def _common_length(one: str, other: str) -> int:
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


class _Template:
    """The templates of one run in transformers' environment, with the run's date."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        from transformers.utils import chat_template_utils

        day = datetime.date.fromisoformat(setup["date"])

        class RunDate(datetime.datetime):
            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> RunDate:
                return cls(day.year, day.month, day.day, tzinfo=tz)

        chat_template_utils.datetime = RunDate
        self._render = chat_template_utils.render_jinja_template
        self._templates = setup["templates"]
        self._variables = setup["variables"]
        self._most = int(setup["longest"])

    def compile(self) -> None:
        """Raise Jinja's error for an invalid template."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        for text in self._templates.values():
            _compile_jinja_template(text)

    def answer(self, chat: Mapping[str, Any]) -> dict[str, Any]:
        """The reply for one conversation. A system message that the template rejects is folded into the user's."""
        messages = chat["messages"]
        refusal = ""
        located: Located | None = None
        try:
            located = self._locate(messages, chat)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            refusal = f"{type(error).__name__}: {error}"[:300]
        folded = False
        if located is None or _drops_system(messages, located.text):
            other = fold_system(messages)
            if other is not None and other != messages:
                try:
                    located, folded = self._locate(other, chat), True
                except MemoryError:
                    raise
                except Exception:  # noqa: BLE001, S110 - the first refusal is the one to tell
                    pass
        if located is None:
            return {"error": refusal}
        return {
            "text": located.text,
            "spans": located.spans,
            "lost": located.lost,
            "folded": folded,
            "leaves_out": _leaves_out(messages, chat.get("tools") or (), located.text),
        }

    def _locate(self, messages: Sequence[Message], chat: Mapping[str, Any]) -> Located:
        template = self._templates[chat["template"]]
        options = {"chat_template": template, "tools": chat.get("tools"), **self._variables}

        def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
            random.seed(0)  # make Jinja's "random" and "lipsum" deterministic
            texts, _ = self._render([list(messages)], add_generation_prompt=add_generation_prompt, **options)
            return self._checked(texts[0])

        if _GENERATION.search(template):
            random.seed(0)
            texts, marks = self._render([list(messages)], return_assistant_tokens_mask=True, **options)
            if marks and marks[0] and all(_has_calls(message, texts[0]) for message in messages):
                return Located(self._checked(texts[0]), sorted(marks[0]), 0)
        return locate_answers(messages, render)

    def _checked(self, text: str) -> str:
        if len(text) > self._most:
            raise ValueError(f"it writes more than {self._most} characters for one conversation")
        text.encode()  # half of a surrogate pair is not text
        return text


def _drops_system(messages: Sequence[Message], text: str) -> bool:
    said = (str(one.get("content") or "").strip() for one in messages if one["role"] in _FOLDED_ROLES)
    return any(content not in text for content in said)


def _limit_memory(more: int) -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():  # on other systems the limit counts memory that is mapped but unused
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def _allow_seconds(seconds: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _reply(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the input ends. The kernel ends the process at its time limit; it reports its memory limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    setup = json.loads(sys.stdin.readline())
    template = _Template(setup)
    _limit_memory(int(setup["memory"]))
    seconds = float(setup["seconds"])
    _allow_seconds(seconds)
    try:
        template.compile()
    except MemoryError:
        return _reply({"fault": "memory"})
    except Exception as error:  # noqa: BLE001 - whatever Jinja says
        return _reply({"fault": f"{type(error).__name__}: {error}"[:300]})
    _reply({})
    for line in sys.stdin:
        request = json.loads(line)
        _allow_seconds(seconds + request["seconds"])
        try:
            _reply([template.answer(chat) for chat in request["chats"]])
        except MemoryError:
            return _reply({"fault": "memory"})
    return None


if __name__ == "__main__":
    main()
