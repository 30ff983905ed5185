# SPDX-License-Identifier: Apache-2.0
"""What make_families.py and make_mamba1.py share: tiny random models, and the logits that transformers gives."""
import copy
import math
import pathlib

import torch
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).resolve().parent
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LENGTHS = (1, 29, 45)


def randomise(model, generator, least_decay):
    """Values in the range of a trained model's, so that every part of a layer matters."""
    for name, parameter in model.named_parameters():
        shape = parameter.shape
        uniform = torch.rand(shape, generator=generator)
        normal = torch.randn(shape, generator=generator)
        if name.endswith("A_log"):
            value = torch.log(least_decay + 15.0 * uniform)
        elif name.endswith(("dt_bias", "dt_proj.bias")):
            time_step = torch.exp(math.log(0.01) + uniform * math.log(50.0))
            value = time_step + torch.log(-torch.expm1(-time_step))
        elif name.endswith("conv1d.weight"):
            value = uniform - 0.5
        elif "embed" in name:  # small: tied to lm_head, a large one would only repeat its token
            value = 0.05 * normal / math.sqrt(shape[1])
        elif len(shape) == 2:
            value = normal / math.sqrt(shape[1])
        elif name.endswith(("norm.weight", "norm_f.weight", ".D", "layernorm.weight")):
            value = 0.7 + 0.6 * uniform
        else:
            value = 0.4 * uniform - 0.2
        parameter.data = value.to(torch.bfloat16).to(torch.float32)


def write(name, model, least_decay):
    """Writes the folder `name`: weights in bf16, and tokens, logits and greedy continuations in fp32."""
    folder = GOLDEN / name
    generator = torch.Generator().manual_seed(sum(name.encode()))
    randomise(model, generator, least_decay)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)  # this would round buffers, too
    (folder / "generation_config.json").unlink(missing_ok=True)
    expected = {}
    with torch.no_grad():
        for i, length in enumerate(LENGTHS):
            tokens = torch.randint(0, model.config.vocab_size, (1, length), generator=generator)
            expected[f"case{i}.tokens"] = tokens[0].to(torch.int32)
            expected[f"case{i}.logits"] = model(tokens, use_cache=False).logits[0].float().contiguous()
            for _ in range(12):
                last = model(tokens, use_cache=False).logits[0, -1]
                tokens = torch.cat([tokens, last.argmax().view(1, 1)], dim=1)
            expected[f"case{i}.greedy"] = tokens[0, length:].to(torch.int32)
    save_file(expected, folder / "expected.safetensors")
    print(name, sum(f.stat().st_size for f in folder.iterdir()), "bytes, largest logit",
          float(expected["case2.logits"].abs().max()), expected["case1.greedy"].tolist())
