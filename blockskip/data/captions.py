"""Captions of photos: trigger and class, optionally with a description.

One rule holds for the terminal, the page and the API (`training_caption`, applied when a run is
made): a trained caption always has the trigger.

Details in a caption, as in “a photo of momo cat, lying on a sofa”, are not learnt as part of the
pet. Captioners (models/captioners) can write them; data/descriptions.py makes captions of what they
say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from blockskip.core.settings import Settings
from blockskip.data.caption_files import captions_beside

# what other trainers let stand for the trigger: [trigger], [name], {trigger}, <trigger word> …
_PLACEHOLDER = re.compile(r"[\[{<]\s*(?:trigger(?:[ _-]?word)?|name)\s*[\]}>]", re.IGNORECASE)
# scripts that write words without blanks, or particles without blanks after them
_NO_BLANKS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")

# a captioner's words for a pet, which may differ from the owner's
_ANIMALS = (
    "cat|kitten|kitty|tabby|dog|puppy|pup|rabbit|bunny|bear|hamster|guinea pig|mouse|rat|ferret|"
    "bird|parrot|budgie|horse|pony|foal|turtle|tortoise|lizard|gecko|snake|fish|pet|animal"
)
_COLOURS = "black|white|brown|tan|grey|gray|orange|ginger|red|cream|golden|yellow|silver|blue"
# “there is …”, “a close up of …”, and words that BLIP invents
_OPENING = re.compile(
    r"^(?:(?:there (?:is|are)|this is|it is|arafe?d|araffes?)\s+)?"
    r"(?:(?:an?|the)\s+)?(?:(?:blurry|black and white)\s+)?"
    r"(?:(?:photo|photograph|picture|image|close[- ]?up|portrait)(?:\s+view)?\s+of\s+)",
    re.IGNORECASE,
)
_THERE = re.compile(r"^(?:there (?:is|are)|this is|it is|arafe?d|araffes?)\s+", re.IGNORECASE)
# words that end a noun phrase: “a cat sitting”, “a cat and a ball”, “a cat that is”
_ENDS = (
    r"(?:and|with|on|in|at|of|is|are|that|who|which|to|by|near|under|behind|above|beside|beneath|between"
    r"|over|from|for|through|around|against|inside|outside|while|the|an?|its|his|her|their"
    r"|\w{2,}ing)\b"
)
_NO_PET = r"(?!\s+(?:bed|house|food|bowl|toy|collar|tree|park|door)\b)"  # a dog bed is no dog
# remove “with green eyes”, which describes the pet's looks, but not “with its eyes closed”
_LOOKS = re.compile(
    r"\bwith\s+(?:an?\s+)?(?!its\b|his\b|her\b)(?:[\w-]+\s+){1,3}"
    r"(?:eyes|fur|coat|hair|ears|stripes|spots|whiskers|paws|nose|markings)\b"
    r"(?!\s+(?:closed|open))",
    re.IGNORECASE,
)


def default_caption(trigger: str, class_name: str, extra: str = "") -> str:
    """Return “a photo of momo cat”, or “a photo of momo cat, lying on a sofa” given `extra`."""
    subject = " ".join(f"a photo of {trigger} {class_name}".split())
    extra = _clean(extra)
    return f"{subject}, {extra}" if extra else subject


def training_caption(text: str, trigger: str, class_name: str) -> str:
    """Return the caption with which a photo of this pet is trained.

    “[trigger] on a sofa” → “momo on a sofa”. A caption that then has the trigger, in any case, is
    kept. “lying on a sofa” → “a photo of momo cat, lying on a sofa” (`add_subject`).
    """
    text = " ".join(_PLACEHOLDER.sub(lambda _: trigger, text).split())
    return text if has_trigger(text, trigger) else add_subject(text, trigger, class_name)


def has_trigger(text: str, trigger: str) -> bool:
    """Return whether a text has the trigger as whole words, in any case, as in “Momo's paw”."""
    text, word = _comparable(text), _comparable(trigger)
    start = text.find(word) if word else -1
    while start >= 0:
        end = start + len(word)
        if not (
            _joined(text[start - 1 : start], word[0]) or _joined(word[-1], text[end : end + 1])
        ):
            return True
        start = text.find(word, start + 1)
    return False


def _comparable(text: str) -> str:
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(re.sub("[’ʼ`´]", "'", text).split())


def _joined(left: str, right: str) -> bool:
    """Return whether two neighbouring characters belong to one word; "" is the text's edge."""
    if not (left and right):
        return False
    if any(unicodedata.name(char, "").startswith(_NO_BLANKS) for char in (left, right)):
        return False
    return all(char == "_" or unicodedata.category(char)[0] in "LMN" for char in (left, right))


def notes(paths: Sequence[Path], settings: Settings) -> list[str]:
    """Return what a user should know of the captions beside photos, one sentence each: files that
    cannot be used, and how many captions lack the trigger, so that it is added."""
    found = captions_beside(paths)
    told = [f"{name} is not used as a caption: {reason}." for name, reason in found.problems]
    texts = [_PLACEHOLDER.sub(lambda _: settings.trigger, found.of(path)) for path in paths]
    lacking = sum(bool(text) and not has_trigger(text, settings.trigger) for text in texts)
    if lacking:
        whose = "1 caption that lacks" if lacking == 1 else f"{lacking} captions that lack"
        told.append(f"The trigger “{settings.trigger}” is added to {whose} it.")
    return told


def add_subject(description: str, trigger: str, class_name: str) -> str:
    """Convert a captioner's description to a caption of this pet.

    “a black cat sitting on a table” → “a photo of momo cat, sitting on a table”. The animal's noun
    phrase is removed, since its looks should be learnt with the name. “a woman holding a dog” →
    “a photo of a woman holding momo dog”. If the description names no animal, or several, all of it
    follows the name. If it is empty, the name stands alone.
    """
    text = _THERE.sub("", _OPENING.sub("", _clean(description), count=1), count=1)
    animal = _animal(text, class_name) or _animal(text, _ANIMALS, plain=False)
    if animal is None or animal["plural"]:
        return default_caption(trigger, class_name, text)
    before, after = text[: animal.start()].strip(), _LOOKS.sub("", text[animal.end() :])
    if before or after.startswith(("'", "’")):
        subject = " ".join(f"{trigger} {class_name}".split())
        return " ".join(f"a photo of {before} {subject}{after}".split())
    after = re.sub(r"^[\s,]*(?:(?:that|which|who)\s+)?(?:(?:is|are|was)\s+)?", "", after)
    return default_caption(trigger, class_name, after)


def _animal(text: str, names: str, plain: bool = True) -> re.Match[str] | None:
    """Match the first noun phrase of one of the animals: article, adjectives, name."""
    if not names.strip():
        return None
    names = re.escape(names.strip()) if plain else names
    colours = rf"(?:{_COLOURS})\s+and\s+(?:{_COLOURS})\s+"
    return re.search(
        rf"(?:\b(?:an?|the|one|this|that|his|her|their|my)\s+)?"
        rf"(?:{colours}|(?!{_ENDS})\b[\w-]+\s+){{0,4}}?"
        rf"(?<!teddy )\b(?:{names})(?P<plural>e?s)?\b{_NO_PET}",
        text,
        re.IGNORECASE,
    )


def _clean(text: str) -> str:
    """Return the text on one line, without double quotes or a final full stop."""
    return " ".join(text.replace('"', " ").split()).strip(" .,;")
