"""A judge behind a server on this machine that sees, that does not, and that misbehaves on purpose."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.evaluation import judge
from dalle3_jax.evaluation.atoms import Atom
from dalle3_jax.evaluation.judge import Answer, Judge, accepted_answers, answer_probability, check_judge, judge_pictures
from dalle3_jax.evaluation.questions import QuestionPrompt, load_questions, read_questions
from dalle3_jax.prompting import chat_server
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.prompting.upsampler import BackendError
from tests.prompting.test_chat import KEY, breaks_off, drip, hang, says, server, status

__all__ = ["server"]  # a fixture

PICTURE = Image.new("RGB", (8, 8))
CATS = QuestionPrompt(
    "cats", "two cats", (Atom("object", "Are there any cats?"), Atom("count", "How many cats?", "two")), 2
)
LINE = {
    "prompt": "two red cats",
    "atom_count": 2,
    "vqa_list": [["How many cats are in the image?", "two"], ["Are the cats red?", "Yes"]],
    "skills": ["count", "attribute"],
}


def body(text: str, *tokens: dict[str, float]) -> bytes:
    """An answer with the probabilities of the likeliest tokens at each place, the first of which is said."""
    content = [
        {
            "token": next(iter(row)),
            "logprob": math.log(next(iter(row.values()))),
            "top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in row.items()],
        }
        for row in tokens
    ]
    choice = {"message": {"role": "assistant", "content": text}}
    return json.dumps({"choices": [choice | ({"logprobs": {"content": content}} if tokens else {})]}).encode()


def backend(server, deadline: float = 30.0, **changes) -> Judge:
    chat = Chat(f"http://127.0.0.1:{server.server_port}/v1", "eyes", KEY, deadline=deadline)
    return Judge(chat, **changes)


def test_a_picture_and_a_question_are_sent_and_probabilities_asked_for(server):
    server.behaviours = [says(body("Yes", {"Yes": 0.6, " yes": 0.25, "No": 0.1}))]
    assert backend(server)(b"a PNG", "Are there any cats?", "Yes") == pytest.approx(Answer(0.85, True))
    [(path, headers, payload)] = server.requests
    assert (path, headers["Authorization"], payload["model"]) == ("/v1/chat/completions", f"Bearer {KEY}", "eyes")
    assert (payload["logprobs"], payload["temperature"]) == (True, 0.0)
    [picture, question] = payload["messages"][0]["content"]
    assert picture["image_url"]["url"] == "data:image/png;base64,YSBQTkc="
    assert question["text"].startswith("Are there any cats?")


@pytest.mark.parametrize(
    ("said", "answer", "expected"),
    [
        (body("No", {"No": 0.9, "Yes": 0.1}), "Yes", Answer(0.1, True)),
        (body("2", {"2": 0.5, "Two": 0.25, "twenty": 0.1, "3": 0.1}), "two", Answer(0.75, True)),
        (body("No.", {"No": 0.7}), "No", Answer(0.7, True)),
        (body("polka dots", {"pol": 0.5, "str": 0.4}, {"ka": 1.0}, {" dots": 0.5}), "polka dots", Answer(0.25, True)),
        (body("Yes."), "Yes", Answer(1.0, False)),
        (body("Two"), "two", Answer(1.0, False)),
        (body("I see two"), "two", Answer(0.0, False)),
    ],
)
def test_the_probability_is_that_of_the_right_answer_in_any_spelling(said, answer, expected):
    found = answer_probability(said, answer)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.5, "x", True, None, [1]])
def test_what_is_no_logarithm_of_a_probability_is_none(value):
    broken = json.loads(body("Yes", {"Yes": 0.5}))
    broken["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = value
    assert answer_probability(json.dumps(broken).encode(), "Yes") == Answer(1.0, False)


def test_numbers_are_taken_in_words_and_digits():
    assert accepted_answers("Three") == {"three", "3"}
    assert accepted_answers("Yes") == {"yes"}


def test_a_judge_is_asked_for_a_colour_before_anything_else(server):
    server.behaviours = [says(body("Red", {"Red": 0.9}))]
    assert check_judge(backend(server)).soft
    server.behaviours = [status(400), says(body("red"))]  # a server that refuses to give probabilities
    assert not check_judge(backend(server)).soft
    server.behaviours = [says(body("Blue", {"Blue": 0.9}))]
    with pytest.raises(ValueError, match=r"eyes at .* does not see pictures"):
        check_judge(backend(server))


@pytest.mark.parametrize("act", [hang, drip, breaks_off, status(401), says(b"\xff"), says(b'{"choices": []}')])
def test_a_server_that_is_no_judge_is_refused_in_one_line_without_the_key(server, act):
    server.behaviours = [act]
    with pytest.raises(ValueError, match="judge-url") as caught:
        check_judge(backend(server, deadline=0.4))
    assert KEY not in str(caught.value)


def test_pictures_are_judged_atom_by_atom_and_answers_kept(server, tmp_path):
    server.behaviours = [says(body("Yes", {"Yes": 0.5, "2": 0.25}))]
    first = judge_pictures(backend(server, cache=tmp_path), [CATS, CATS], [PICTURE, PICTURE], threads=1)
    assert [one.scores for one in first.scores] == [(0.5, 0.25)] * 2
    assert (first.questions, first.hard, first.errors) == (4, 0, [])
    assert len(server.requests) == 2  # the same picture is not asked about twice
    server.behaviours = [hang]
    assert judge_pictures(backend(server, cache=tmp_path), [CATS], [PICTURE]).scores == first.scores[:1]
    other = Image.new("RGB", (8, 8), (1, 2, 3))
    assert not judge_pictures(backend(server, deadline=0.4, cache=tmp_path), [CATS], [other]).scores


def test_questions_without_an_answer_cost_their_picture_alone(server):
    server.behaviours = [says(body("Yes")), says(b"garbage"), says(body("yes"))]
    found = judge_pictures(backend(server), [CATS, CATS], [PICTURE, PICTURE], threads=1)
    assert [one.scores for one in found.scores] == [(1.0, 0.0)]
    assert found.hard == 3
    assert found.errors == ["prompt 'cats': the chat server's answer is none"]


def test_a_server_that_falls_silent_ends_the_run(server, monkeypatch):
    monkeypatch.setattr(judge, "MOST_FAILURES", 3)
    server.behaviours = [says(b"garbage")]
    with pytest.raises(ValueError, match="3 questions in a row had no answer: the chat server's answer is none"):
        judge_pictures(backend(server), [CATS] * 50, [PICTURE] * 50, threads=1)
    assert len(server.requests) < 50


def test_an_error_of_the_judge_is_the_chats(server, monkeypatch):
    monkeypatch.setattr(chat_server.time, "sleep", lambda seconds: None)
    server.behaviours = [status(500)]
    with pytest.raises(BackendError, match="status 500"):
        backend(server)(b"", "?", "Yes")


def write(folder: Path, *lines: object) -> str:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def test_a_file_in_geneval_2s_format_is_read(tmp_path):
    one = {**LINE, "vqa_list": [*LINE["vqa_list"], ["How many hats are in the image?", "one"]]}
    one["skills"] = [*LINE["skills"], "count"]
    prompts, errors = load_questions(write(tmp_path, LINE, "", one))
    assert errors == []
    assert [(prompt.text, prompt.atom_count) for prompt in prompts] == [("two red cats", 2)] * 2
    assert [(a.skill, a.question, a.answer, a.counted) for a in prompts[1].atoms] == [
        ("count", "How many cats are in the image?", "two", True),
        ("attribute", "Are the cats red?", "Yes", True),
        ("count", "How many hats are in the image?", "one", False),
    ]
    assert [prompt.id for prompt in load_questions(write(tmp_path, *[LINE] * 10), 3)[0]] == [
        "line 1",
        "line 4",
        "line 7",
    ]


def test_our_own_suites_become_questions_too():
    prompts, _ = load_questions("counting", 4)
    assert len(prompts) == 4
    assert all({"object", "count"} <= {atom.skill for atom in prompt.atoms} for prompt in prompts)


def test_a_byte_order_mark_is_no_part_of_a_file_of_questions(tmp_path):
    (tmp_path / "questions.jsonl").write_text(json.dumps(LINE), encoding="utf-8-sig")
    [prompt], errors = read_questions(tmp_path / "questions.jsonl")
    assert (prompt.text, errors) == (LINE["prompt"], [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1", "line 2: "),
        ([LINE], "line 2: a prompt is a JSON object"),
        ({**LINE, "atom_count": "2"}, "atom_count '2' must be a int"),
        ({**LINE, "skills": ["count"]}, "2 questions, 1 skills"),
        ({**LINE, "vqa_list": [["?"], ["?", "Yes"]]}, "a question is"),
        ({**LINE, "vqa_list": [["?", 2], ["?", "Yes"]]}, "a question is"),
        ({"prompt": "a cat"}, "vqa_list None must be a list"),
    ],
)
def test_lines_that_are_none_are_named(line, message, tmp_path):
    prompts, errors = read_questions(write(tmp_path, LINE, line))
    assert len(prompts) == 1
    assert message in errors[0]
    with pytest.raises(ValueError, match=r"questions\.jsonl"):
        read_questions(write(tmp_path, line))
