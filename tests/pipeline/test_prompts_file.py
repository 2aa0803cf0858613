"""Files of prompts are read as what their names say, in any case, or refused by name: nothing is drawn by mistake."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from dalle3_jax.pipeline.jobs import read_prompt_lines

TWO = [{"prompt": "a cat", "seed": 3}, {"prompt": "a fox", "size": (16, 32)}]
ROWS = [{"prompt": "a cat", "seed": 3}, {"prompt": "a fox", "size": "32x16"}]
JSON_LINES = "\n".join(map(json.dumps, ROWS)) + "\n\n"
FILES = {
    "p.JSONL": JSON_LINES,
    "p.ndjson": JSON_LINES,
    "p.Json": JSON_LINES,
    "list.json": json.dumps(ROWS, indent=2),
    "p.csv": 'Prompt, seed,size\r\na cat,3,\r\n"a fox",,32x16\r\n,,\r\n',
    "p.TSV": "prompt\tseed\tsize\na cat\t3\t\na fox\t\t32x16\n",
}


def read(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [line.settings for line in read_prompt_lines([], str(path))]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_is_read_as_its_name_says(tmp_path, name, mark):
    assert read(tmp_path / name, mark + FILES[name].encode()) == TWO


def test_json_may_hold_texts_and_one_object(tmp_path):
    assert read(tmp_path / "p.json", '["a cat", {"prompt": "a fox"}]') == [{"prompt": "a cat"}, {"prompt": "a fox"}]
    assert read(tmp_path / "p.json", '{"prompt": "a\\ncat"}') == [{"prompt": "a\ncat"}]


def test_cells_of_a_table_are_of_their_settings_types(tmp_path):
    table = 'prompt,negative_prompt,seed,guidance_scale,guidance_interval\n"3, 4",7,5,2.5,"[0.1, 0.9]"\n'
    settings = {"negative_prompt": "7", "seed": 5, "guidance_scale": 2.5, "guidance_interval": (0.1, 0.9)}
    assert read(tmp_path / "p.csv", table) == [{"prompt": "3, 4", **settings}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "- prompt: a cat", r"p\.yaml: prompts are read from"),
        ("p.MD", "* a cat", r"p\.MD: prompts are read from"),
        ("p.txt", '{"prompt": "a cat"}\n', r"p\.txt line 1: it is JSON: name the file \.jsonl"),
        ("p.txt", '[{"prompt": "a cat"}]\n', r"p\.txt line 1: it is JSON: name the file \.jsonl"),
        ("p.txt", "PK\x03\x04", r"p\.txt line 1: it has control characters: this is no file of text"),
        ("p.jsonl.GZ", b"\x1f\x8b\x08", r"p\.jsonl\.GZ: prompts are read from"),
        ("p.csv", "a cat\na fox\n", r"p\.csv: its first line must name the columns"),
        ("p.csv", "prompt,seed\na cat, or two, 3\n", r"p\.csv line 2: it has not 2 cells"),
        ("p.csv", "prompt,mood\na cat,sad\n", r"p\.csv line 2: unknown key 'mood'"),
        ("p.csv", "prompt,seed\na cat,soon\n", r"p\.csv line 2: seed must be a whole number, not 'soon'"),
        ("p.csv", 'prompt\n"a cat\n', r"p\.csv line 1: unexpected end"),
        ("p.json", "[3]", r"p\.json entry 1: neither a text nor an object"),
        ("p.json", "{", r"p\.json line 1: not JSON"),
        ("p.json", '{"prompts": []}', r"p\.json entry 1: it has no prompt"),
        ("p.txt", b"\xff\xfea\x00", "save it as UTF-8"),
        ("p.txt", "# a cat\n#\n", "holds no prompts"),
    ],
)
def test_what_is_no_file_of_prompts_is_refused_by_name(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, text)


def test_lines_that_begin_with_a_number_sign_are_comments_and_it_is_said(tmp_path, capsys):
    text = "# cats\na cat\n  #a dog\n[a] {fox}\rsign # 1\n"
    settings = read(tmp_path / "prompts.v2", text)
    assert [line["prompt"] for line in settings] == ["a cat", "[a] {fox}", "sign # 1"]
    assert "2 lines" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a cat\na fox\n", '["a cat", "a fox"]', '{"prompt": "a cat"}\n{"prompt": "a fox"}\n'])
def test_standard_input_holds_lines_or_json(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    lines = read_prompt_lines(["first"], "-")
    assert [line.settings["prompt"] for line in lines] == ["first", "a cat", "a fox"]
    assert lines[1].source.startswith("- ")
