"""Bad input, at the binary: one clear message, the documented exit code, under a second, never a signal.

A row: number in the catalogue of bad inputs, what is wrong, exit code, a fragment of the message, and a function
that makes the input in a folder and returns the command line."""
import json
import os
import pathlib
import struct
import tempfile
import unittest

import harness

ROWS = []


def row(number, what, code, fragment):
    def add(make):
        ROWS.append((number, what, code, fragment, make))
        return make
    return add


# Experiment files: exit 64.

def yaml_row(number, what, fragment, content, code=64):
    content = content.encode() if isinstance(content, str) else content

    def make(folder):
        (folder / "exp.yaml").write_bytes(content)
        return ["check", folder / "exp.yaml"]
    ROWS.append((number, what, code, fragment, make))


GOOD = f"""schema: 1
name: test
model: {{path: {harness.MODEL}}}
prompts: {{file: {harness.PROMPTS}, limit: 2}}
"""
yaml_row(1, "empty file", "found nothing", "")
ROWS.append(("slurm", "a shard that is none", 64, "expected I/N",
             lambda folder: ["run", harness.experiment(folder / "exp.yaml"), "--shard", "4/4"]))
yaml_row(2, "only comments", "exp.yaml", "# nothing\n")
yaml_row(3, "top level is a list", "exp.yaml:1", "- a\n- b\n")
yaml_row(4, "unknown key", "did you mean 'prompts'", GOOD.replace("prompts:", "promts:"))
yaml_row(5, "duplicate key", "exp.yaml:5", GOOD + "name: again\n")
yaml_row(6, "missing required key", "model", "schema: 1\nname: test\n")
yaml_row(7, "wrong type", "exp.yaml:5", GOOD + "generation: {max_new_tokens: four}\n")
yaml_row(8, "zero chunk", "exp.yaml:5", GOOD + "measure: {repeats: 0}\n")
yaml_row(8, "too large a number", "exp.yaml:5", GOOD + "measure: {repeats: 9223372036854775808}\n")
yaml_row(8, "1e400", "exp.yaml:5", GOOD + "measure: {repeats: 1e400}\n")
yaml_row(9, ".nan", "exp.yaml:5", GOOD + "generation: {sampling: {temperature: .nan}}\n")
yaml_row(9, ".inf", "exp.yaml:5", GOOD + "generation: {sampling: {temperature: .inf}}\n")
yaml_row(10, "octal", "exp.yaml:5", GOOD + "measure: {repeats: 012}\n")
yaml_row(10, "yes is no boolean", "exp.yaml:5", GOOD + "generation: {use_cache: yes}\n")
yaml_row(11, "tab indentation", "exp.yaml:6", GOOD + "measure:\n\trepeats: 1\n")
yaml_row(12, "unterminated quote", "exp.yaml", GOOD + "output: {dir: \"results\n")
yaml_row(13, "501 levels", "exp.yaml", GOOD + "output: " + "[" * 501 + "]" * 501)
yaml_row(14, "a million brackets", "exp.yaml", "[" * 1000000)
yaml_row(15, "alias bomb", "exp.yaml", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n")
yaml_row(16, "self alias", "exp.yaml", "a: &a [*a]\n")
yaml_row(17, "undefined alias", "exp.yaml", GOOD + "output: {dir: *nowhere}\n")
yaml_row(18, "merge key", "exp.yaml", GOOD + "output: {<<: {dir: x}}\n")
yaml_row(19, "two documents", "exp.yaml", GOOD + "---\nname: second\n")
yaml_row(20, "over 1 MiB", "1 MiB", GOOD + "#" * (1 << 20))
yaml_row(21, "UTF-16", "exp.yaml", GOOD.encode("utf-16"))
yaml_row(22, "invalid UTF-8", "exp.yaml:5", GOOD.encode() + b"output: {dir: \xff}\n")
yaml_row(23, "NUL", "exp.yaml", GOOD.encode() + b"output: {dir: a\0b}\n")
yaml_row(25, "more than a million points", "exp.yaml", GOOD + "sweep: {matrix: {generation.seed: [%s], "
         "ssm.chunk_size: [%s]}}\n" % (", ".join(map(str, range(1100))), ", ".join(map(str, range(1, 1101)))))
yaml_row(0, "unknown variant", "known", GOOD + "ssm: {variant: defualt}\n")
yaml_row(0, "empty sweep axis", "exp.yaml:5", GOOD + "sweep: {matrix: {ssm.variant: []}}\n")
yaml_row(0, "everything excluded", "exp.yaml",
         GOOD + "sweep: {matrix: {ssm.chunk_size: [64]}, exclude: [\"ssm.chunk_size == 64\"]}\n")
yaml_row(0, "no decode form", "own_end_state", GOOD + "ssm: {variant: own_end_state}\n")
yaml_row(0, "not in this version", "version", GOOD + "measure: {until: {metric: tpot_p50}}\n")


@row(26, "a directory as experiment", 64, "exp.yaml")
def _(folder):
    (folder / "exp.yaml").mkdir()
    return ["check", folder / "exp.yaml"]


@row(26, "a FIFO as experiment", 64, "exp.yaml")
def _(folder):
    os.mkfifo(folder / "exp.yaml")
    return ["check", folder / "exp.yaml"]


@row(26, "/dev/zero as experiment", 64, "/dev/zero")
def _(folder):
    return ["check", "/dev/zero"]


@row(27, "no such experiment", 64, "nowhere.yaml")
def _(folder):
    return ["run", folder / "nowhere.yaml"]


@row(0, "unknown verb", 64, "unknown verb 'launch'; known: run, ")
def _(folder):
    return ["launch"]


@row(0, "misspelt verb", 64, "unknown verb 'runn' (did you mean 'run'?)")
def _(folder):
    return ["runn", folder / "exp.yaml"]


@row(0, "misspelt benchmark", 64, "(did you mean 'prefill'?)")
def _(folder):
    return ["bench", "prefil"]


@row(0, "misspelt variant of a benchmark", 64, "unknown variant 'sequental' (did you mean 'sequential'?)")
def _(folder):
    return ["bench", "ssd", "--variant", "sequental"]


@row(0, "no verb", 64, "expected a verb; see `chunkstate --help`")
def _(folder):
    return []


@row(0, "no experiment", 64, "experiment is required; see `chunkstate run --help`")
def _(folder):
    return ["run"]


@row(0, "no format to export", 64, "--parquet] is required; see `chunkstate export --help`")
def _(folder):
    return ["export", "results.h5"]


@row(0, "unknown flag", 64, "--fast; see `chunkstate run --help`")
def _(folder):
    return ["run", "exp.yaml", "--fast"]


# Prompt files: exit 65.

def prompt_row(number, what, fragment, content, name="prompts.jsonl"):
    content = content.encode() if isinstance(content, str) else content

    def make(folder):
        (folder / name).write_bytes(content)
        return ["run", harness.experiment(folder / "exp.yaml", prompts={"file": str(folder / name)}),
                "--out", folder / "out"]
    ROWS.append((number, what, 65, fragment, make))


prompt_row(29, "empty", "prompts.jsonl", "")
prompt_row(32, "truncated last line", "prompts.jsonl:2", '{"prompt": "a"}\n{"prompt": "b')
prompt_row(34, "a line over 16 MiB", "prompts.jsonl", '{"prompt": "' + "a" * (17 << 20) + '"}\n')
prompt_row(35, "duplicate ids", "prompts.jsonl:2", '{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}\n')
prompt_row(36, "no prompt", "prompts.jsonl:1", '{"answer": "a"}\n')
prompt_row(37, "id is a number list", "prompts.jsonl:1", '{"prompt": "a", "id": [1]}\n')
prompt_row(38, "lone surrogate", "prompts.jsonl:1", '{"prompt": "\\ud800"}\n')
prompt_row(39, "NUL", "prompts.jsonl:1", '{"prompt": "a\\u0000b"}\n')
prompt_row(40, "invalid UTF-8", "prompts.jsonl:1", b'{"prompt": "\xff"}\n')
prompt_row(41, "10,000 nested arrays", "prompts.jsonl:1", '{"prompt": "a", "x": ' + "[" * 10000 + "]" * 10000 + "}\n")
prompt_row(43, "duplicate key", "prompts.jsonl:1", '{"prompt": "a", "prompt": "b"}\n')
prompt_row(44, "empty prompt", "prompts.jsonl:1", '{"prompt": ""}\n')
prompt_row(47, "gzip", "gzip", b"\x1f\x8b\x08\x00" + b"x" * 100)
prompt_row(0, "a list item without prompt", "item 2", '[{"prompt": "a"}, {"text": "b"}]', "prompts.json")


@row(26, "a FIFO as prompts", 65, "prompts")
def _(folder):
    os.mkfifo(folder / "prompts.json")
    return ["run", harness.experiment(folder / "exp.yaml", prompts={"file": str(folder / "prompts.json")})]


# Weights: exit 65.

def weights_row(number, what, fragment, change):
    """`change` maps the bytes of a good container to bad ones."""
    def make(folder):
        model = harness.copy_golden_model("bamba-a", folder / "model")
        weights = model / "model.safetensors"
        weights.write_bytes(change(weights.read_bytes()))
        (folder / "ids.json").write_text("[[1, 2, 3]]")
        return ["logits", "--model", model, "--tokens", folder / "ids.json", "-o", folder / "out.h5"]
    ROWS.append((number, what, 65, fragment, make))


def with_header(change):
    def apply(content):
        size = struct.unpack("<Q", content[:8])[0]
        header = change(json.loads(content[8:8 + size]))
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size:]
    return apply


def edit(name, **fields):
    def change(header):
        header[name].update(fields)
        return header
    return with_header(change)


FIRST = "model.embed_tokens.weight"
weights_row(49, "5 bytes", "model.safetensors", lambda c: c[:5])
weights_row(50, "header length 0", "model.safetensors", lambda c: struct.pack("<Q", 0) + c[8:])
weights_row(51, "header over 100 MB", "model.safetensors", lambda c: struct.pack("<Q", 200 << 20) + c[8:])
weights_row(52, "header length 2^64-1", "model.safetensors", lambda c: b"\xff" * 8 + c[8:])
weights_row(53, "header longer than the file", "model.safetensors", lambda c: struct.pack("<Q", len(c)) + c[8:])
weights_row(54, "header is no JSON", "model.safetensors", with_header(lambda h: b"not json"))
weights_row(54, "header is a list", "model.safetensors", with_header(lambda h: b"[1, 2]"))
weights_row(55, "garbage behind the header's JSON", "model.safetensors",
            with_header(lambda h: json.dumps(h).encode() + b" x"))
weights_row(56, "offsets reversed", FIRST, edit(FIRST, data_offsets=[100, 4]))
weights_row(59, "beyond the end", "model.safetensors", edit(FIRST, data_offsets=[0, 1 << 40]))
weights_row(60, "longer than its data", "model.safetensors", lambda c: c + b"\0" * 16)
weights_row(61, "shape product overflows", FIRST, edit(FIRST, shape=[4194305, 4194305, 211106198978564]))
weights_row(62, "shape against bytes", FIRST, edit(FIRST, shape=[1, 1]))
weights_row(63, "negative dimension", FIRST, edit(FIRST, shape=[-97, 64]))
weights_row(63, "dimension as text", FIRST, edit(FIRST, shape=["97", 64]))
weights_row(64, "unknown dtype", FIRST, edit(FIRST, dtype="F7"))
weights_row(68, "metadata with numbers", "__metadata__", with_header(lambda h: {**h, "__metadata__": {"a": 1}}))
weights_row(70, "cut by one byte", "model.safetensors", lambda c: c[:-1])
weights_row(72, "a Git LFS pointer", "LFS",
            lambda c: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


# Model folders: exit 65.

def config_row(number, what, fragment, **fields):
    def make(folder):
        model = harness.copy_golden_model("bamba-a", folder / "model")
        config = json.loads((model / "config.json").read_text())
        config.update(fields)
        (model / "config.json").write_text(json.dumps(config))
        return ["inspect", "--model", model] if number != 80 else [
            "generate", "--model", model, "--prompt", "a", "-n", "1"]
    ROWS.append((number, what, 65, fragment, make))


config_row(77, "hidden_size 0", "hidden_size", hidden_size=0)
config_row(78, "heads do not divide", "heads", num_attention_heads=5)
config_row(78, "mamba heads do not multiply", "mamba", mamba_n_heads=7)
config_row(79, "a milliard layers", "num_hidden_layers", num_hidden_layers=10**9)
config_row(80, "vocabulary against embedding", FIRST, vocab_size=98)
config_row(81, "rope_theta 0", "rope_theta", rope_parameters={"rope_theta": 0})
config_row(82, "unknown architecture", "bamba", model_type="mamba9")
config_row(0, "hidden_act", "hidden_act", hidden_act="gelu")


@row(77, "no config.json", 65, "config.json")
def _(folder):
    return ["inspect", "--model", folder]


@row(0, "no such model", 65, "nowhere")
def _(folder):
    return ["inspect", "--model", folder / "nowhere"]


@row(0, "unknown synthetic model", 64, "bamba-9b")
def _(folder):
    return ["inspect", "--model", "synthetic:bamba-10b"]


def shards(folder, weight_map):
    model = harness.copy_golden_model("bamba-a", folder / "model")
    (model / "model.safetensors").rename(model / "model-00001.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return ["generate", "--model", model, "--prompt", "a", "-n", "1"]


@row(73, "index names a missing shard", 65, "model-00002.safetensors")
def _(folder):
    return shards(folder, {FIRST: "model-00002.safetensors"})


@row(74, "shard outside the folder", 65, "index.json")
def _(folder):
    return shards(folder, {FIRST: "../../etc/passwd"})


@row(76, "a missing layer", 65, "missing")
def _(folder):
    model = harness.copy_golden_model("bamba-a", folder / "model")
    tensors = harness.read_safetensors(model / "model.safetensors")
    del tensors["model.layers.2.input_layernorm.weight"]
    (model / "model.safetensors").write_bytes(harness.safetensors(tensors))
    (folder / "ids.json").write_text("[[1, 2, 3]]")
    return ["logits", "--model", model, "--tokens", folder / "ids.json", "-o", folder / "out.h5"]


# Tokenizers and other files: exit 65.

def tokenizer_row(number, what, fragment, change):
    def make(folder):
        tokenizer = json.loads((harness.MODEL / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps(change(tokenizer) or tokenizer))
        (folder / "texts.json").write_text('["a text"]')
        return ["tokenize", "--model", folder, "--input", folder / "texts.json"]
    ROWS.append((number, what, 65, fragment, make))


tokenizer_row(84, "a merge of absent tokens", "tokenizer.json", lambda t: t["model"]["merges"].append(["zzqx", "qqzx"]))
tokenizer_row(85, "two tokens with one id", "tokenizer.json", lambda t: t["model"]["vocab"].update({"zzqx": 5}))
tokenizer_row(85, "a negative id", "tokenizer.json", lambda t: t["model"]["vocab"].update({"zzqx": -5}))
tokenizer_row(88, "an empty added token", "tokenizer.json",
              lambda t: t["added_tokens"].append(dict(t["added_tokens"][0], content="", id=8187)))
tokenizer_row(0, "an unknown model type", "tokenizer.json", lambda t: t["model"].update(type="Unigram"))


@row(0, "ids outside the vocabulary", 65, "ids.json: item 0: token 1: id 500, expected 0 to 96")
def _(folder):
    (folder / "ids.json").write_text("[[1, 500]]")
    return ["logits", "--model", harness.ROOT / "tests/golden/bamba-a", "--tokens", folder / "ids.json", "-o",
            folder / "out.h5"]


@row(0, "ids that are no lists", 65, "ids.json")
def _(folder):
    (folder / "ids.json").write_text('{"a": 1}')
    return ["logits", "--model", harness.ROOT / "tests/golden/bamba-a", "--tokens", folder / "ids.json", "-o",
            folder / "out.h5"]


@row(0, "an id that is a text", 65, "ids.json: item 1, token 2")
def _(folder):
    (folder / "ids.json").write_text('[[1], [2, 3, "x"]]')
    return ["logits", "--model", harness.ROOT / "tests/golden/bamba-a", "--tokens", folder / "ids.json", "-o",
            folder / "out.h5"]


@row(0, "a sequence with nothing to predict", 65, "ids.json: item 1: found 1 token, expected at least 2")
def _(folder):
    (folder / "ids.json").write_text("[[1, 2], [3]]")
    return ["score", "--model", harness.ROOT / "tests/golden/bamba-a", "--tokens", folder / "ids.json", "-o",
            folder / "out.h5"]


@row(0, "a folder for the output that is not there", 1, "nowhere: open: No such file or directory")
def _(folder):
    (folder / "ids.json").write_text("[[1, 2]]")
    return ["logits", "--model", harness.ROOT / "tests/golden/bamba-a", "--tokens", folder / "ids.json", "-o",
            folder / "nowhere/out.h5"]


@row(0, "a synthetic model without its prefix", 65, "(did you mean 'synthetic:bamba-9b'?)")
def _(folder):
    return ["inspect", "--model", "bamba-9b"]


@row(0, "an experiment with an unknown synthetic model", 64, "bamba-10b")
def _(folder):
    return ["check", harness.experiment(folder / "exp.yaml", model={"path": "synthetic:bamba-10b"})]


@row(0, "the tokenizer of a synthetic model", 64, "synthetic models have no tokenizer")
def _(folder):
    (folder / "texts.json").write_text('["a"]')
    return ["tokenize", "--model", "synthetic:bamba-9b", "--input", folder / "texts.json"]


@row(0, "a folder that is no run's", 65, "no results.h5 in this folder")
def _(folder):
    return ["verify", folder]


@row(0, "status of a file", 64, "is a file, expected the folder of a run")
def _(folder):
    (folder / "results.h5").write_text("")
    return ["status", folder / "results.h5"]


@row(91, "verify an empty file", 65, "empty.h5")
def _(folder):
    (folder / "empty.h5").write_bytes(b"")
    return ["verify", folder / "empty.h5"]


@row(92, "verify what is no HDF5", 65, "text.h5")
def _(folder):
    (folder / "text.h5").write_text("hello\n" * 1000)
    return ["verify", folder / "text.h5"]


class BadInput(unittest.TestCase):
    def test_every_row(self):
        self.assertGreaterEqual(len(ROWS), 60)
        for number, what, code, fragment, make in ROWS:
            with self.subTest(number=number, what=what), tempfile.TemporaryDirectory() as folder:
                arguments = make(pathlib.Path(folder))
                with harness.ProcessorTime() as spent:
                    done = harness.run(arguments, timeout=30)
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                self.assertIn(fragment, done.stderr)
                self.assertLess(spent.seconds, 1.0)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                self.assertTrue(done.stderr.startswith("chunkstate: "), done.stderr)

    def test_ranks_give_one_message_and_one_code(self):
        for number, what, code, fragment, make in ROWS:
            if (number, what) not in ((36, "no prompt"), (4, "unknown key")):
                continue
            with self.subTest(what=what), tempfile.TemporaryDirectory() as folder:
                arguments = make(pathlib.Path(folder))
                if arguments[:1] == ["check"]:
                    arguments[0] = "run"
                done = harness.run(arguments, ranks=3, timeout=60)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual(done.stderr.count("chunkstate:"), 1, done.stderr)


if __name__ == "__main__":
    harness.main()
