#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer_unicode.json: texts that split expressions get wrong, with the ids that Hugging Face's
`tokenizers` package (0.23.3, Unicode 16) gives for experiments/models/bamba-tiny/tokenizer.json; and
tokenizer_digits.json: the same for some of them with the pre-tokenizers of Granite 3, Digits and ByteLevel.

    pip install tokenizers==0.23.3 && python3 tests/golden/make_tokenizer_unicode.py
"""
import json
import pathlib
import random

from tokenizers import Tokenizer, pre_tokenizers

GOLDEN = pathlib.Path(__file__).resolve().parent
TOKENIZER = GOLDEN.parent.parent / "experiments/models/bamba-tiny/tokenizer.json"

WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_WHITE_SPACE = "\x1c\x1d\x1e\x1f\u180e\u200b\u2060\ufeff\x00\x7f"
MARKS = "\u0301\u0308\u093f\u20e3\ufe0f\u200d\U0001f3fd\U000e0100"
NUMBERS = "0189\u00b2\u0660\u0967\u2167\u2460\u3007\U0001d7d9"
LETTERS = "a\u00aa\u0130\u017f\u01c5\u02b0\u05d0\u0915\u1ea9\u3042\u4e2d\uac00\ufb06\U00010400\U0001d400"
UNICODE_15_16 = "\u1c89\ua7cb\U00010d40\U00010d4a\U000116d0\U00013460\U00016d70\U0001e4f0\U0002ebf0\U00031350"
UNASSIGNED = "\u0378\ufffe\uffff\U0001ffff\U000abcde\U0010ffff"
OTHER = "!'\u2019\"-_/<>|\u20ac\u2211\U0001f600\ue000"
CONTRACTIONS = ["'s", "'S", "'\u017f", "'t", "'RE", "'vE", "'m", "'LL", "'d", "\u2019s", "''s", "'s't"]
ADDED = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|pad|", "<<|pad|>>", "<|pad|><|pad|>"]
CONTEXTS = ["%s\u2019s", "a%sthe", "1%s23", "  %s the", "%s\n\n", " %s'll"]


def texts():
    for character in (WHITE_SPACE + NOT_WHITE_SPACE + MARKS + NUMBERS + LETTERS + UNICODE_15_16 +
                      UNASSIGNED + OTHER):
        yield "|".join(context % character for context in CONTEXTS)
    for contraction in CONTRACTIONS:
        yield "we" + contraction + " x" + contraction + "1" + contraction
    for added in ADDED:
        yield "a " + added + " the  " + added + "\n" + added
    for length in (1, 2, 3, 4, 63, 64, 65, 66, 200):
        yield "ab" * length + " " * length + "7" * length + "=" * length + "\n" * length
    rng = random.Random(2026)
    pools = [WHITE_SPACE, NOT_WHITE_SPACE, MARKS, NUMBERS, LETTERS, UNICODE_15_16, UNASSIGNED, OTHER]
    for _ in range(120):
        parts = []
        for _ in range(rng.randint(2, 14)):
            kind = rng.random()
            if kind < 0.15:
                parts.append(rng.choice(CONTRACTIONS))
            elif kind < 0.25:
                parts.append(rng.choice(ADDED))
            elif kind < 0.4:
                parts.append(rng.choice(["the", "  of", " Hello", "\u4e2d\u6587", "na\u00efve", "0x1F"]))
            else:
                parts.append(rng.choice(rng.choice(pools)) * rng.choice([1, 1, 2, 3]))
        yield "".join(parts)


def main():
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    cases = []
    for text in texts():
        cases.append({"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids})
    lines = [json.dumps(case, separators=(",", ":")) for case in cases]
    (GOLDEN / "tokenizer_unicode.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(len(cases), "cases")
    lines = []
    for individual in (True, False):
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        for case in cases[::5] + [{"text": "x" + NUMBERS + " 2026 and 10,000.5\u00b2"}]:
            ids = tokenizer.encode(case["text"], add_special_tokens=False).ids
            lines.append(json.dumps({"individual": individual, "text": case["text"], "ids": ids},
                                    separators=(",", ":")))
    (GOLDEN / "tokenizer_digits.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
