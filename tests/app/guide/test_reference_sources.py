"""What the reference pages read from the source of the project."""

from __future__ import annotations

import ast
import inspect

from app.guide.reference.job_faults import job_faults
from app.guide.reference.job_settings import _spelled
from app.guide.reference.python import _parameters
from app.guide.reference.source import expressions, sentences


def texts(source: str) -> list[str]:
    """The sentences of the argument of ``say``."""
    return [
        sentence
        for node, names in expressions(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say"
        for sentence in sentences(node.args[0], names)
    ]


def test_an_inserted_value_becomes_a_mark_unless_its_text_is_known() -> None:
    assert texts('PLACE = "here"\ndef one(value):\n    say(f"Look {PLACE} for {value!r}.")') == ["Look here for …."]
    assert texts('PLACE = "here"\ndef one(PLACE):\n    say(f"Look in {PLACE}.")') == ["Look in …."]
    assert texts('def one(a):\n    name = "x" if a else "y"\n    say(f"Choose {name}.")') == ["Choose x or y."]
    assert texts('def now():\n    """Its text."""\n    return f"at {1}"\nsay(f"Look {now()}.")') == ["Look at …."]
    assert texts("""say("Use one of " + ", ".join(f'"{one}"' for one in known) + ".")""") == ['Use one of "…".']


def test_sentences_of_hardly_more_than_inserted_values_are_left_out() -> None:
    assert texts('say(f"{first}.")') == texts('say(f"See {first}.")') == []
    assert texts('say("Wait." if busy else "Go on.")') == ["Wait.", "Go on."]
    assert texts('say(f"Export it. {more}")') == ["Export it."]
    assert texts('say(f"{one} {other} requests are open.")') == ["… requests are open."]
    assert texts('say("Wait." + ("" if first else " Or stop."))') == ["Wait."]


def test_a_fault_of_a_job_is_found_in_each_form_that_records_one() -> None:
    source = """
LOOK = "Look at the log."
class Breach:
    code: str
    reason: str
    remedy: str
def lose(job, *, code, reason, remedy=LOOK):
    end(job, {"code": code, "message": reason})
def over(limit):
    return {"code": "over", "message": f"It took longer than {limit}.", "remedy": "Retry it."}
def run(leases, job, worker):
    leases.lose(job, code="lost", reason=f"The worker {worker} is gone.")
    Breach("full", "No room.", "Give more.")
    note({"code": "not_an_error", "counted": False})
"""
    found = {fault.code: (fault.meaning, *fault.remedies) for fault in job_faults([ast.parse(source)])}
    assert found == {
        "over": ("It took longer than ….", "Retry it."),
        "lost": ("The worker … is gone.", "Look at the log."),
        "full": ("No room.", "Give more."),
    }


def test_a_signature_shows_how_parameters_are_passed() -> None:
    def some(a: int, /, b: int, *, c: int = 0) -> None: ...
    def only_positional(a: int, /) -> None: ...
    def rest(*others: int, c: int) -> None: ...

    assert list(_parameters(inspect.signature(some))) == ["a: int", "/", "b: int", "*", "c: int = 0"]
    assert list(_parameters(inspect.signature(only_positional))) == ["a: int", "/"]
    assert list(_parameters(inspect.signature(rest))) == ["*others: int", "c: int"]


def test_a_value_is_spelled_as_the_command_line_takes_it() -> None:
    assert [_spelled(value) for value in (False, ("nf4", "int8"), 1e-4, "none")] == [
        "false", '["nf4", "int8"]', "0.0001", "none",
    ]  # fmt: skip
