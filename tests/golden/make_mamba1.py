#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the folders mamba1-*: tiny random Mamba-1 models with the logits that transformers (5.23.0, fp32,
CPU) gives for them. README.md says what the files hold.

    pip install transformers==5.23.0 torch && python3 tests/golden/make_mamba1.py
"""
import torch
from transformers import MambaConfig, MambaForCausalLM

from golden_model import TOKENS, write

MODELS = {
    "mamba1-a": MambaConfig(vocab_size=89, hidden_size=48, num_hidden_layers=3, state_size=16,
                            tie_word_embeddings=True, **TOKENS),
    # Biases, no convolution bias, 3 taps, another eps, a stated rank, odd states, untied.
    "mamba1-b": MambaConfig(vocab_size=67, hidden_size=40, expand=3, num_hidden_layers=3, state_size=7,
                            conv_kernel=3, use_bias=True, use_conv_bias=False, time_step_rank=5,
                            layer_norm_epsilon=1e-3, tie_word_embeddings=False, **TOKENS),
}


def main():
    torch.set_num_threads(1)
    for name, config in MODELS.items():
        write(name, MambaForCausalLM(config).eval(), least_decay=0.5)


if __name__ == "__main__":
    main()
