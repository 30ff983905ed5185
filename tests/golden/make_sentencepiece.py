#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer-sentencepiece/: a small tokenizer.json of Llama-2's form (BPE over characters with byte
fallback) and what Hugging Face's `tokenizers` package (0.23.3) makes of hard texts and ids with it.

    pip install tokenizers==0.23.3 && python3 tests/golden/make_sentencepiece.py

With `--compare BINARY FOLDER COUNT` it compares COUNT random texts with `BINARY tokenize` and `detokenize`
instead; FOLDER is a model folder whose tokenizer.json is the one written here.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

GOLDEN = pathlib.Path(__file__).resolve().parent
FOLDER = GOLDEN / "tokenizer-sentencepiece"
PROMPTS = GOLDEN.parent.parent / "experiments/prompts"
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    texts = [row["prompt"] for name in ("chunks_1_to_9", "prompt_lengths")
             for row in json.loads((PROMPTS / f"{name}.json").read_text())]
    texts += ["na\u00efve \u4e2d\u6587 caf\u00e9 \u03b1\u03b2"] * 9
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL + BYTES, limit_alphabet=80, show_progress=False))
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    stored = json.loads(tokenizer.to_str())
    stored["added_tokens"] = [token for token in stored["added_tokens"] if token["content"] in SPECIAL]
    return stored


def variants(stored):
    """Changes of the file that its form allows: the one with the name '' is the file itself."""
    yield "", stored
    changed = json.loads(json.dumps(stored))
    for token in changed["added_tokens"]:
        token["normalized"] = True
    yield "normalized", changed
    changed = json.loads(json.dumps(stored))
    for byte in ("<0xE2>", "<0xF0>", "<0x0A>"):
        del changed["model"]["vocab"][byte]
    yield "missing bytes", changed
    changed = json.loads(json.dumps(changed))
    changed["model"]["fuse_unk"] = False
    yield "missing bytes, not fused", changed


POOLS = ["abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", "0123456789", " \u2581\t\n\r\u00a0\u3000\x00\x7f", ".,;:!?'\"-_<>/|()",
         "\u00e9\u00ef\u03b1\u03b2\u4e2d\u6587\u0430\u05d0\u0915\uac00", "e\u0301\u0308\u200d\ufe0f\u20e3",
         "\U0001f600\U0001f3fd\U00010400\U0010ffff\ufffd\ufeff\u2028\u0378\ufffe\uffff\ud7ff\ue000"]
WORDS = ["the", " the", "state", " of a ", "chunk", "<s>", "</s>", " </s>", "<unk>", "<s", "<0x41>", "<0xE2>", "caf\u00e9",
         "\u2581\u2581", "  ", "    ", "\u4e2d\u6587", "sequence", "\n\n"]


def random_text(rng):
    parts = []
    for _ in range(rng.randint(0, 16)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(rng.choice(WORDS))
        elif kind < 0.9:
            parts.append("".join(rng.choice(rng.choice(POOLS)) for _ in range(rng.randint(1, 6))))
        else:
            point = rng.randrange(0x110000)
            parts.append("\n" if 0xD800 <= point < 0xE000 else chr(point))
    return "".join(parts)


def fixed_texts():
    yield from ("", " ", "  ", "\u2581", "\u2581 \u2581", "a", " a", "a ", "the state of a chunk", "<s>", "<s> a", "a<s>b </s> c",
                "<s><s>", "<unk>\u4e2d<unk>", "<0x0A>", "\n", "\r\n", "\x00", "\U0001f600\U0001f600", "e\u0301", "a\u2581b")
    for length in (1, 2, 3, 31, 63, 64, 65, 66, 200):
        yield "ab" * length + " " * length + "\U0001f600" * length


def random_ids(rng, size, byte_ids):
    return [rng.choice(byte_ids) if rng.random() < 0.6 else rng.randrange(size) for _ in range(rng.randint(0, 12))]


def write():
    FOLDER.mkdir(exist_ok=True)
    stored = train()
    (FOLDER / "tokenizer.json").write_text(json.dumps(stored, ensure_ascii=False, separators=(",", ":")) + "\n")
    rng = random.Random(2026)
    byte_ids = [stored["model"]["vocab"][byte] for byte in BYTES]
    lines = []
    for name, changed in variants(stored):
        tokenizer = Tokenizer.from_str(json.dumps(changed))
        for text in [*fixed_texts(), *(random_text(rng) for _ in range(90))]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            lines.append({"variant": name, "text": text, "ids": ids,
                          "ids_with_bos": tokenizer.encode(text, add_special_tokens=True).ids,
                          "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    tokenizer = Tokenizer.from_str(json.dumps(stored))
    for _ in range(120):
        ids = random_ids(rng, len(stored["model"]["vocab"]), byte_ids)
        lines.append({"variant": "", "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    (FOLDER / "cases.json").write_text(
        "[\n" + ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n]\n")
    print(len(lines), "cases")


def ask(binary, folder, verb, rows, flags=()):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(rows, file)
        file.flush()
        command = [binary, verb, "--model", folder, "--input", file.name, *flags]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(binary, folder, count):
    stored = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text())
    tokenizer = Tokenizer.from_str(json.dumps(stored))
    rng = random.Random(7)
    texts = [random_text(rng) for _ in range(count)]
    expected = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    found = ask(binary, folder, "tokenize", texts)
    wrong = [i for i in range(count) if found[i] != expected[i]]
    byte_ids = [stored["model"]["vocab"][byte] for byte in BYTES]
    ids = [random_ids(rng, len(stored["model"]["vocab"]), byte_ids) for _ in range(count)]
    decoded = ask(binary, folder, "detokenize", ids)
    wrong_ids = [i for i in range(count)
                 if decoded[i] != tokenizer.decode(ids[i], skip_special_tokens=False)]
    print(f"{count} texts, {len(wrong)} with other ids; {count} lists of ids, {len(wrong_ids)} with another text")
    for i in wrong[:5]:
        print(repr(texts[i]), found[i], expected[i])
    for i in wrong_ids[:5]:
        print(ids[i], repr(decoded[i]), repr(tokenizer.decode(ids[i], skip_special_tokens=False)))
    return bool(wrong or wrong_ids)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(compare(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    write()
