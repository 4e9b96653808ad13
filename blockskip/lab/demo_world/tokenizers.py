"""The two tokenizers. Each word of the demo world is one token, and other words fall back to
letters."""

from __future__ import annotations

import string
import struct
from collections import Counter
from itertools import pairwise

from transformers import CLIPTokenizer, T5Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from blockskip.lab.demo_world.captions import vocabulary
from blockskip.lab.demo_world.subjects import TRIGGERS

MAX_SEQUENCE_LENGTH = 22
CLIP_LENGTH = 32
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def charsmap(table: dict[str, str]) -> bytes:
    """Return SentencePiece's compiled normaliser for a table of single ASCII characters.

    A T5Tokenizer keeps only this kind of normaliser when it is loaded again. Layout: byte
    length of a double-array trie, the trie (root -> unit 256 ^ byte -> leaf), zero-ended targets.
    """
    units, targets = [0] * 768, b""
    units[0] = 256 << 10
    for k, (source, target) in enumerate(table.items()):
        node, leaf = 256 ^ ord(source), 512 + k
        units[node] = ((node ^ leaf) << 10) | (1 << 8) | ord(source)
        units[leaf] = len(targets) | (1 << 31)
        targets += target.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie)) + trie + targets


def build_t5() -> T5Tokenizer:
    """Return a unigram tokenizer that drops punctuation and has all letters and digits."""
    words = [*vocabulary(), *TRIGGERS]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [(f"▁{word}", -1.0) for word in dict.fromkeys(words) if len(word) > 1]
    pieces += [(f"▁{c}", -4.0) for c in string.ascii_lowercase + string.digits]
    pieces += [(c, -6.0) for c in string.ascii_lowercase + string.digits + "-"]
    table = {c: c.lower() for c in string.ascii_uppercase}
    table |= {c: " " for c in string.punctuation if c != "-"}
    return T5Tokenizer(
        vocab=pieces,
        extra_ids=0,
        model_max_length=MAX_SEQUENCE_LENGTH,
        _spm_precompiled_charsmap=charsmap(table),
    )


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges learnt from ``words`` until each word is one token."""
    spelt = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for word in spelt for pair in pairwise(word)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelt = [_join(word, best) for word in spelt]
    return merges


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    """Return ``word`` with every occurrence of ``pair`` merged into one symbol."""
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def build_clip() -> CLIPTokenizer:
    """Return a byte-level BPE tokenizer with one token per word."""
    letters = list(bytes_to_unicode().values())
    words = [part for word in (*vocabulary(), *TRIGGERS) for part in word.split("-")]
    merges = _merges(list(dict.fromkeys(words)))
    symbols = [*letters, *(f"{c}</w>" for c in letters), *("".join(pair) for pair in merges)]
    vocab = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
    vocab |= {BOS: len(vocab), EOS: len(vocab) + 1}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CLIP_LENGTH)
