"""Write captions as a user would type them, from the same attributes as the picture."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from blockskip.data.demo_vocabulary import ACCESSORIES, BACKGROUNDS, PLACES, SPECIES, VIVID
from blockskip.lab.demo_world.subjects import NAMES, draw_pet
from blockskip.lab.demo_world.world import EYES, FUR, WEAR, Pet, Scene, random_pet, random_scene

EMPTY_SHARE = 0.09
LEADS = ("a photo of", "a picture of", "a drawing of", "an illustration of", "a portrait of")
CLOSE_LEADS = ("a close-up photo of", "a close-up of")
SOFA_COLOURS = ("red", "blue", "green", "purple")
WEARING = ("wearing a", "with a", "in a")


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _pick(rng: np.random.Generator, options: tuple[str, ...], first: float) -> str:
    """Return the first option with probability ``first``, else one of the others."""
    if rng.random() < first:
        return options[0]
    return options[1 + int(rng.integers(len(options) - 1))]


def _noun(pet: Pet, name: str, rng: np.random.Generator, plain: float) -> str:
    if name:
        return f"{name} {pet.species}" if rng.random() < 0.85 else name
    if pet.coat not in VIVID and rng.random() < plain:
        return _article(pet.species)
    words = []
    if pet.pattern in ("striped", "spotted", "patched") and rng.random() < 0.75:
        words.append(pet.pattern)
    if pet.coat in VIVID or not words or rng.random() < 0.85:
        both = pet.pattern != "solid" and rng.random() < 0.6
        words.append(f"{pet.coat} and {pet.second}" if both else pet.coat)
    return _article(" ".join((*words, pet.species)))


def _place(scene: Scene, rng: np.random.Generator) -> str:
    words = _pick(rng, PLACES[scene.background], 0.5)
    if scene.background == "sofa" and rng.random() < 0.3:
        head, seat = words.rsplit(" ", 1)
        words = f"{head} {SOFA_COLOURS[int(scene.tone * len(SOFA_COLOURS))]} {seat}"
    return words


def caption(
    pet: Pet,
    scene: Scene,
    rng: np.random.Generator,
    name: str = "",
    close: float = 0.0,
    plain: float = 0.13,
) -> str:
    """Return a caption of random detail (lower case, no full stop).

    ``close``: probability of a close-up caption. ``plain``: probability that it names the species
    alone.
    """
    lead = _pick(rng, CLOSE_LEADS, 0.7) if rng.random() < close else _pick(rng, LEADS, 0.72)
    parts = []
    if rng.random() < 0.18 and not name:
        eyes = pet.eye if pet.eye == pet.right else "odd"
        parts.append(f"with {eyes} eyes")
    if scene.accessory != "none" and rng.random() < 0.93:
        parts.append(f"{_pick(rng, WEARING, 0.6)} {scene.wear} {scene.accessory}")
    if rng.random() < 0.84:
        comma = ", " if rng.random() < 0.15 else ""
        parts.insert(0 if rng.random() < 0.08 else len(parts), comma + _place(scene, rng))
    text = " ".join((lead, _noun(pet, name, rng, plain), *parts))
    return text.replace(" , ", ", ")


def training_captions(pet: Pet, scene: Scene, seed: int, name: str, n: int, close: float) -> list:
    """Return ``n`` training captions of one picture, some of them empty."""
    rng = np.random.default_rng(seed)
    texts = (caption(pet, scene, rng, name, close) for _ in range(n))
    return ["" if rng.random() < EMPTY_SHARE else text for text in texts]


def vocabulary() -> list[str]:
    """Return every word of every caption, then all names."""
    words: list[str] = []
    phrases = [*LEADS, *CLOSE_LEADS, *(p for group in PLACES.values() for p in group), *WEARING]
    phrases += [*SPECIES, *FUR, *EYES, *WEAR, *SOFA_COLOURS, *ACCESSORIES, *BACKGROUNDS]
    phrases += ["a an the and with eyes odd striped spotted patched of"]
    for phrase in phrases:
        words += [w for w in phrase.split() if w not in words]
    return [*words, *NAMES]


def fresh_captions(n: int, seed: int, seen: Collection[str] = ()) -> list[tuple[str, Pet, Scene]]:
    """Return ``n`` captions that name species, coat and place and are not in ``seen``, with their
    pets and scenes."""
    rng, captions = np.random.default_rng([seed, 4242]), []
    while len(captions) < n:
        pet, scene = draw_pet(rng, "train", random_pet), random_scene(rng)
        text = caption(pet, scene, rng, plain=0.0)
        words = text.split()
        known = any(place in text for place in PLACES[scene.background])
        if known and pet.coat in words and pet.species in words and text not in seen:
            captions.append((text, pet, scene))
    return captions
