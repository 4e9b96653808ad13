"""What captioners are asked about a photo, and what their answers become.

Two schools of captions are known. One names what may change and leaves out what shall be learnt
(diffusers' README for Krea 2, and most guides), the other names everything that stands out. Nobody
has measured them on pets; the first is asked for here. What an instruction cannot keep out is cut
from the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from unicodedata import category

from blockskip.core import files
from blockskip.data.caption_files import caption_key
from blockskip.data.captions import add_subject, default_caption

# {class} stands for the kind of animal
INSTRUCTION = (
    "Write one plain sentence about this photo, for training an image model. Begin with “the "
    "{class}” and its pose, as in “the {class} lying on a rug”. Go on with the direction from which "
    "it is seen and how much of it is in the picture, what it wears or holds, who and what is with "
    "it, the place and the light. Say nothing of its breed, colour, markings, fur, eyes or body. "
    "State only what is visible, without guesses, names or praise."
)
MAX_INSTRUCTION = 2000  # characters
MAX_CHARS = 400  # of a caption that is written here, as of one typed on the page
_MAX_ANSWER = 20_000  # characters that are looked at
_PLACEHOLDER = "[trigger]"

_THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHTS_END = re.compile(r"\A.*</think>", re.DOTALL | re.IGNORECASE)  # without a beginning
_MARKDOWN = re.compile(r"[*_`]{2,}|`|^\s*(?:#+|[-*•>])\s+", re.MULTILINE)
_PREAMBLES = re.compile(
    r"^(?:"
    r"(?:sure|certainly|of course|okay|ok|absolutely|great)(?: thing)?\s*[!,.:–—-]+\s*"
    r"|(?:here(?:’s|'s| is| are)|below is|this is)\b[^.:]{0,80}:\s*"
    r"|(?:training |image )?(?:caption|description|sentence|answer)\s*:\s*"
    r"|(?:(?:in|on) )?(?:this|the|an?) (?:[\w-]+ ){0,2}?(?:image|photo|photograph|picture|snapshot)"
    r"(?:,\s+|\s+(?:shows|depicts|features|captures|displays|portrays|presents|contains|is of|of)\s+"
    r"|\s+(?=(?:we|you|one|there)\b))"
    r"|(?:we|you|one) (?:can )?sees?\s+"
    r"|there (?:is|are)\s+"
    r")",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+[”\"’')]*(?=\s|$)")
_COATS = r"(?:fur|coat|markings|colou?ring|plumage|feathers|mane)"
_PARTS = r"(?:eyes|ears|paws|nose|tail|face|whiskers|legs|head)"
_OWN = r"(?:its|his|her|their|the \w+['’]s)"
_ADJECTIVE = (
    r"(?:black|white|brown|tan|gr[ea]y|orange|ginger|red|cream|golden|yellow|silver|blue|green|amber|"
    r"hazel|pink|dark|light|bright|pale|striped|spotted|patched|mottled|tabby|calico|brindle|soft|"
    r"thick|dense|short|long|medium|fluffy|furry|shaggy|silky|smooth|curly|wavy|floppy|pointed|large|"
    r"big|small|round|very|mostly|mainly|distinctive|\w+-colou?red|\w+ish)"
)
_ADJECTIVES = rf"(?:{_ADJECTIVE},?\s+(?:and\s+|with\s+)?)"
_LOOKS = (
    # “, its fur white and soft”, “and its coat is black”
    rf"(?:\s*,)?(?:\s*\b(?:and|with|while))?\s*\b{_OWN}\s+{_ADJECTIVES}*{_COATS}\b[^,.;]*",
    rf"\s*\bwith\s+(?:an?\s+)?{_ADJECTIVES}+{_COATS}\b",  # “with soft, long orange fur”
)
# “, a fluffy orange tabby with green eyes” after the pet's name
_APPOSITIVE = (
    r"\b({0}),\s+an?\s+[^,.]*?\b(?:{0}|tabby|retriever|terrier|shepherd|spaniel|poodle|mix|breed)\b"
    r"[^,.]*(?=[,.]|$)"
)
_COLOURED_PART = rf"\b({_OWN})\s+{_ADJECTIVES}+(?={_PARTS}\b)"


def instruction_for(text: str, class_name: str) -> str:
    """Return what a captioner is asked: `text`, or INSTRUCTION if it is blank, for a kind of pet."""
    return (text.strip() or INSTRUCTION).replace("{class}", class_name or "pet")


def described_caption(answer: str, class_name: str, cut: bool = False) -> str:
    """Return a captioner's answer as the caption of a photo, which training completes.

    “The cat is lying on a sofa.” → “lying on a sofa”, and “A woman holding a cat.” → “a photo of a
    woman holding [trigger] cat”. "" if it says no more than the name. Training makes the same of it
    as of the answer (data/captions.py): words are left out only where that is certain. cut: whether
    the answer was cut off.
    """
    class_name = class_name or "pet"
    text = without_looks(plain_answer(answer, cut), class_name)
    text = text[:1].lower() + text[1:]
    whole, name = (
        add_subject(text, _PLACEHOLDER, class_name),
        default_caption(_PLACEHOLDER, class_name),
    )
    if whole == name:
        return ""
    rest = whole.removeprefix(f"{name}, ")
    return rest if add_subject(rest, _PLACEHOLDER, class_name) == whole else whole


def plain_answer(answer: str, cut: bool = False) -> str:
    """Return what an answer says of the photo, on one line: without thoughts, marks, preambles and
    an unfinished last sentence, and not too long."""
    text = _MARKDOWN.sub("", without_thoughts(answer[:_MAX_ANSWER]))
    text = "".join(" " if category(char) in ("Cc", "Cs") else char for char in text)
    text = " ".join(text.split()).strip("\"“”'‘ ")
    before = None
    while before != text:
        before, text = text, _PREAMBLES.sub("", text, count=1).lstrip("\"“”'‘ ")
    return _finished(text, cut)


def without_thoughts(answer: str) -> str:
    """Return what an answer says after thinking."""
    return _THOUGHTS_END.sub("", _THOUGHTS.sub("", answer)).strip()


def _finished(text: str, cut: bool) -> str:
    """Return the complete sentences of a text that fit into MAX_CHARS, else what stands before a
    comma or a word."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends and ends[-1] < len(text):  # the last sentence is not finished
        text = text[: ends[-1]]
    if not cut and len(text) <= MAX_CHARS:
        return text
    whole = [end for end in ends if end <= MAX_CHARS]
    if whole:
        return text[: whole[-1]]
    text = text[:MAX_CHARS]
    return text.rpartition(",")[0] or text.rpartition(" ")[0] or text


def without_looks(text: str, class_name: str) -> str:
    """Return a description without what it says of the pet's breed, colours and coat."""
    appositive = _APPOSITIVE.format(re.escape(class_name))
    kept = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        sentence = re.sub(appositive, r"\1", sentence, flags=re.IGNORECASE)
        for looks in _LOOKS:
            sentence = re.sub(looks, "", sentence, flags=re.IGNORECASE)
        sentence = re.sub(_COLOURED_PART, r"\1 ", sentence, flags=re.IGNORECASE)
        if re.search(r"\w", sentence):
            kept.append(sentence.lstrip(" ,;"))
    return re.sub(r"\s+([,.;])", r"\1", " ".join(kept)).strip()


def caption_file(photo: Path, folder: Path, others: Sequence[Path]) -> Path:
    """Return the file for the caption of a photo in a folder: x.txt, however it is spelt there, or
    x.jpg.txt if another photo is called x too."""
    same = [one for one in others if caption_key(one.stem) == caption_key(photo.stem)]
    stem = photo.name if len(same) > 1 else photo.stem
    there = folder.iterdir() if folder.is_dir() else ()
    names = {caption_key(file.name): file for file in sorted(there)}
    return names.get(caption_key(f"{stem}.txt"), folder / f"{stem}.txt")


def write_caption(file: Path, text: str) -> None:
    """Write a caption as training reads it. Raises UserError."""
    files.write_text(file, text + "\n")
