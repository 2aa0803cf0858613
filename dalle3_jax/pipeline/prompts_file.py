"""Files of prompts: plain lines, JSON, JSON lines and tables; - is standard input."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from dalle3_jax.files import local_path

__all__ = ["STANDARD_INPUT", "read_prompts_file"]

STANDARD_INPUT = "-"
LINES, TABLES = (".jsonl", ".ndjson", ".jsonlines"), {".csv": ",", ".tsv": "\t"}
OTHERS = (
    *(".yaml", ".yml", ".toml", ".xml", ".html", ".htm", ".md", ".ini", ".py", ".rtf", ".parquet", ".gz", ".zip"),
    *(".xlsx", ".xls", ".ods", ".docx", ".doc", ".odt", ".pdf", ".json5", ".jsonc"),
)
"""What would be drawn line by line, and never is meant so."""

Entry = tuple[str, Any]
"""(Where it stands, for messages; a prompt, or a mapping of settings.) A ValueError in place of it says why not."""


def read_prompts_file(name: str, is_text: Callable[[str], bool]) -> list[Entry]:
    """The entries of a file of prompts, or of standard input; ValueError when it cannot be read.

    The suffix, in any case, says how it is read: .jsonl, .json, .csv or .tsv with a line of names (in which cells are
    JSON unless `is_text` holds for their name); all others are one prompt a line, where # begins a comment. What comes
    from standard input may be any but a table.
    """
    suffix = Path(name).suffix.lower()
    if suffix in OTHERS:
        raise ValueError(f"{name}: prompts are read from .txt (one a line), .jsonl, .json, .csv and .tsv")
    text = _read_text(name)
    if suffix in TABLES:
        return list(_table_entries(name, text, TABLES[suffix], is_text))
    if suffix in LINES:
        return [(source, _parse_line(line)) for source, line in _numbered_lines(name, text)]
    document = _parse_document(text) if suffix == ".json" or name == STANDARD_INPUT else None
    if document is not None:
        return [(f"{name} entry {number}", entry) for number, entry in enumerate(document, start=1)]
    if suffix == ".json" or (name == STANDARD_INPUT and text.lstrip().startswith("{")):
        return [(source, _parse_line(line)) for source, line in _numbered_lines(name, text)]
    return list(_plain_entries(name, text))


def _read_text(name: str) -> str:
    """The text of a file or of standard input, with one kind of line end."""
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(local_path(name)).read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read the prompts file {name!r}: {error}; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ValueError(f"cannot read the prompts file {name!r}: {error}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _numbered_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{name} line {number}", line.strip()


def _plain_entries(name: str, text: str) -> Iterator[Entry]:
    """A prompt a line. Lines that begin with # are comments, which is said; lines of JSON are refused."""
    comments = 0
    for source, line in _numbered_lines(name, text):
        if line.startswith("#"):
            comments += 1
        elif line.startswith(("{", "[")) and (document := _parse_document(line)) and isinstance(document[0], dict):
            yield source, ValueError("it is JSON: name the file .jsonl")
        elif any(letter < " " and letter != "\t" for letter in line):
            yield source, ValueError("it has control characters: this is no file of text")
        else:
            yield source, line
    if comments:
        print(f"note: {comments} lines of {name} begin with # and are comments", file=sys.stderr)


def _table_entries(name: str, text: str, delimiter: str, is_text: Callable[[str], bool]) -> Iterator[Entry]:
    """The rows of a table whose first row names the settings; empty cells say nothing."""
    table = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = {column: column.strip().lower() for column in table.fieldnames or ()}
        if "prompt" not in names.values():
            raise ValueError(f"{name}: its first line must name the columns, and one of them prompt")
        for row in table:
            source = f"{name} line {table.line_num}"
            if None in row or None in row.values():
                yield source, ValueError(f"it has not {len(names)} cells, as the first line has")
                continue
            cells = {names[column]: cell.strip() for column, cell in row.items() if cell.strip()}
            if cells:
                yield source, {key: cell if is_text(key) else _cell_value(cell) for key, cell in cells.items()}
    except csv.Error as error:
        raise ValueError(f"{name} line {table.line_num}: {error}") from None


def _cell_value(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _parse_document(text: str) -> list[Any] | None:
    """The entries of a JSON document: a list, or one object; None where it is no single document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        return [document]
    return document if isinstance(document, list) else None


def _parse_line(line: str) -> Any:
    """The value of one line of JSON; an error says why it has none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return ValueError(f"not JSON: {error}")
    return value if isinstance(value, dict) else ValueError('not an object like {"prompt": "a panda"}')
