"""Edits in words with a lexicon: the description of a picture after "make it night" or "replace the fox with a panda".

What an edit says is read as prompts are; it is done to what the description says, and that is written anew.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from dalle3_jax.prompting.claims import SEVERAL, Claims, Relation, Token, parse_claims, read_tokens
from dalle3_jax.prompting.faithfulness import stem
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.rewording import reword_description
from dalle3_jax.prompting.template import Chooser, compose_description

__all__ = ["REMOVED", "added_part", "edit_description"]

REMOVED = re.compile(r"\b(?:remove|delete|erase|drop|without|no|take away|get rid of)\b", re.I)
REPLACED = re.compile(
    r"\b(?:replace|swap|exchange|switch|change|turn|make|transform|substitute)\b(?P<old>.+?)"
    r"\b(?:with|by|for|into|to)\b(?P<new>.+)",
    re.I,
)
INSTEAD = re.compile(r"(?P<new>.+?)\b(?:instead|in place) of\b(?P<old>.+)", re.I)
SWAPPED = re.compile(r"\b(?:swap|exchange|switch|trade)\b", re.I)
WHOLE = re.compile(r"\binstead\b|\b(?:make|turn) it\b", re.I)
"""What stands for the one thing of a picture."""
MORE = re.compile(r"\b(?:add|another|more|extra)\b", re.I)
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def edit_description(earlier: str, edit: str, lexicon: Lexicon, seed: int = 0) -> str:
    """The description of an earlier prompt after an edit ("add a fox", "make it blue", "in the snow instead").

    In its own words where a few others in them are enough; else written anew, so that it grows no longer with every
    turn. "" where the edit is not understood.
    """
    before = parse_claims(earlier, lexicon)
    after = edit_claims(before, edit.lower(), lexicon)
    if after == before or not after.things:
        return ""
    if reworded := reword_description(earlier, before, after, lexicon):
        return reworded
    text = compose_description(after, lexicon, Chooser(f"{seed} {earlier}"))
    return text if dict(parse_claims(text, lexicon).things) == dict(after.things) else ""


def added_part(edit: str) -> str:
    """The words of an edit that ask for something to be there: those of what is replaced, or swapped, do not."""
    if SWAPPED.search(edit) and not REPLACED.search(edit):
        return ""
    match = INSTEAD.search(edit) or REPLACED.search(edit)
    return match["new"] if match else edit


def edit_claims(before: Claims, edit: str, lexicon: Lexicon) -> Claims:
    """The claims after an edit, in lower case; the earlier ones where it asks for nothing that is understood."""
    said = before
    if backgrounds := find_backgrounds(edit, lexicon):
        before = replace(before, backgrounds=backgrounds)
    if REMOVED.search(edit):
        away = parse_claims(re.sub(r"\bno\b", "the", edit), lexicon).things
        return keep_things(before, {name: number for name, number in before.things.items() if name not in away})
    if any(token.number is None and token.name not in before.things for token in find_things(edit, lexicon)):
        return said  # of something that is not there
    match = INSTEAD.search(edit) or REPLACED.search(edit)
    if match and (old := parse_claims(match["old"], lexicon).things):
        new = parse_claims(match["new"], lexicon)
        if new.things:
            known = [name for name in old if name in before.things]
            return replace_thing(before, known[0], new) if known else said
    change = parse_claims(edit, lexicon)
    if WHOLE.search(edit) and len(before.things) == 1 and change.things and not change.things.keys() & before.things:
        return replace_thing(before, next(iter(before.things)), change)
    named = [name for name in change.things if name in before.things]
    if SWAPPED.search(edit) and len(named) == 2:
        return rename_things(before, dict(zip(named, reversed(named), strict=True)), before.things)
    after = change_numbers(before, edit, lexicon)
    after = change_colours(after, change, edit, lexicon)
    if change.relations:
        return replace(after, relations=change.relations)
    for name, place in change.places.items():
        after = move_thing(after, name, place)
    return after


def find_things(edit: str, lexicon: Lexicon) -> list[Token]:
    """The names of things in an edit; of those that it speaks of as known the number is None."""
    return [token for token in read_tokens(edit, lexicon) if token.kind == "thing"]


def find_backgrounds(edit: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The background that an edit names, by a phrase or by a word that is one background's alone ("night")."""
    if said := parse_claims(edit, lexicon).backgrounds:
        return said
    words = {stem(word) for word in re.findall(r"[a-z]+", edit)} - {*lexicon.colours}
    known = {name: {stem(word) for word in name.lower().split()} - {*lexicon.colours} for name in lexicon.backgrounds}
    named = [name for name, own in known.items() if own & words]
    return tuple(named) if len(named) == 1 else ()


def replace_thing(before: Claims, old: str, new: Claims) -> Claims:
    """Another thing where one was, as many as are asked for, else as there were."""
    name, number = next(iter(new.things.items()))
    several = number == SEVERAL or before.things[old] > 1 == number
    things = {key: value for key, value in before.things.items() if key not in (old, name)}
    things[name] = before.things[old] if several else number
    after = rename_things(before, {old: name}, things)
    if things[name] != 1:
        after = replace(after, places={key: place for key, place in after.places.items() if key != name})
    return replace(after, tints={**after.tints, name: new.tints.get(name, ())})


def rename_things(before: Claims, names: Mapping[str, str], things: Mapping[str, int]) -> Claims:
    """The same with things by other names, where they stand."""

    def rename(name: str) -> str:
        return names.get(name, name)

    relations = tuple((rename(one[0]), one[1], *map(rename, one[2:])) for one in before.relations)
    places = {rename(name): place for name, place in before.places.items()}
    return keep_things(replace(before, relations=relations, places=places), things)


def keep_things(before: Claims, things: Mapping[str, int]) -> Claims:
    """The claims about these things, and about no others."""
    relations = tuple(one for one in before.relations if {one[0], *one[2:]} <= things.keys())
    places = {name: place for name, place in before.places.items() if name in things}
    tints = {name: before.tints.get(name, ()) for name in things}
    return replace(before, things=dict(things), relations=relations, places=places, tints=tints)


def change_numbers(before: Claims, edit: str, lexicon: Lexicon) -> Claims:
    """Things in the numbers that an edit gives them; what it speaks of as known keeps its own."""
    things = dict(before.things)
    for token in find_things(edit, lexicon):
        if token.number is None:
            continue
        there = things.get(token.name, 0) if MORE.search(edit) else 0
        if token.number != SEVERAL or token.name not in things:
            things[token.name] = there + token.number
    return keep_things(before, things)


def change_colours(before: Claims, change: Claims, edit: str, lexicon: Lexicon) -> Claims:
    """Things in the colours of an edit: one before a name, else one of what it names, of all ("them"), or the last."""
    tints = dict(before.tints) | {name: shades for name, shades in change.tints.items() if shades}
    colour = next((colour for colour in lexicon.colours if re.search(rf"\b{colour}\b", edit)), None)
    if colour and not any(change.tints.values()) and not change.backgrounds and before.things:
        everything = re.search(r"\b(?:them|all|both|everything)\b", edit)
        named = list(change.things) or (list(before.things) if everything else list(before.things)[-1:])
        tints |= {name: (colour,) for name in named}
    return replace(before, tints={name: tints.get(name, ()) for name in before.things})


def move_thing(before: Claims, name: str, place: str) -> Claims:
    """A thing at another place; what stood there, or beside it, makes room."""
    others = {other for one in before.relations if name in (one[0], *one[2:]) for other in (one[0], *one[2:])} - {name}
    places = {key: value for key, value in before.places.items() if key not in others} | {name: place}
    kept = tuple(one for one in before.relations if name not in (one[0], *one[2:]))
    if place not in OPPOSITE:
        return replace(before, relations=kept, places=places)
    for other, value in before.places.items():
        if other != name and value == place:
            places[other] = OPPOSITE[place]
    return replace(before, relations=(*kept, *(relation_of(name, place, other) for other in others)), places=places)


def relation_of(name: str, place: str, other: str) -> Relation:
    """The relation of a thing at a place to another one."""
    first, last = (name, other) if place in ("left", "top") else (other, name)
    return first, "left of" if place in ("left", "right") else "above", last
