#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the folders granite-*, granitemoehybrid-* and mamba2-*: tiny random models of those families with
the logits that transformers (5.23.0, fp32, CPU) gives for them. README.md says what the files hold.

    pip install transformers==5.23.0 torch && python3 tests/golden/make_families.py
"""
import json

import torch
from transformers import (GraniteConfig, GraniteForCausalLM, GraniteMoeHybridConfig,
                          GraniteMoeHybridForCausalLM, Mamba2Config, Mamba2ForCausalLM)

from golden_model import GOLDEN, TOKENS, write

GRANITE = {"embedding_multiplier": 7.0, "attention_multiplier": 0.1, "residual_multiplier": 0.246,
           "logits_scaling": 3.0, "rms_norm_eps": 1e-5}

MODELS = {
    "granite-a": (GraniteForCausalLM, GraniteConfig(
        vocab_size=83, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0}, **GRANITE, **TOKENS)),
    # No positions, layer types by their old names, heads that do not fill the hidden size evenly in 64s.
    "granitemoehybrid-a": (GraniteMoeHybridForCausalLM, GraniteMoeHybridConfig(
        vocab_size=79, hidden_size=48, intermediate_size=999, shared_intermediate_size=80,
        num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=1, num_local_experts=0,
        num_experts_per_tok=0, position_embedding_type="nope", tie_word_embeddings=True,
        layer_types=["linear_attention", "full_attention", "linear_attention", "linear_attention"],
        mamba_n_heads=4, mamba_d_state=16, mamba_n_groups=1, mamba_chunk_size=8,
        max_position_embeddings=4096, **GRANITE, **TOKENS)),
    # Rotary positions, untied, two groups and so two means in the gated norm.
    "granitemoehybrid-b": (GraniteMoeHybridForCausalLM, GraniteMoeHybridConfig(
        vocab_size=71, hidden_size=40, shared_intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=5, num_key_value_heads=5, num_local_experts=0, num_experts_per_tok=0,
        position_embedding_type="rope", tie_word_embeddings=False,
        layer_types=["full_attention", "linear_attention", "full_attention"],
        mamba_n_heads=4, mamba_d_head=20, mamba_d_state=12, mamba_n_groups=2, mamba_d_conv=3,
        mamba_chunk_size=16, max_position_embeddings=4096, **GRANITE, **TOKENS)),
    "mamba2-a": (Mamba2ForCausalLM, Mamba2Config(
        vocab_size=89, hidden_size=48, num_hidden_layers=3, num_heads=6, head_dim=16, state_size=24,
        n_groups=1, chunk_size=8, tie_word_embeddings=True, **TOKENS)),
    # Groups, biases, another eps, a finite limit of the time step, untied.
    "mamba2-b": (Mamba2ForCausalLM, Mamba2Config(
        vocab_size=67, hidden_size=32, num_hidden_layers=3, num_heads=8, head_dim=12, expand=3, state_size=16,
        n_groups=4, conv_kernel=3, chunk_size=16, use_bias=True, use_conv_bias=False, layer_norm_epsilon=1e-3,
        time_step_limit=(0.01, 0.4), tie_word_embeddings=False, **TOKENS)),
}


def use_old_layer_types(config_file):
    """The names that earlier transformers wrote."""
    stored = json.loads(config_file.read_text())
    old = {"linear_attention": "mamba", "full_attention": "attention"}
    stored["layer_types"] = [old[layer] for layer in stored["layer_types"]]
    config_file.write_text(json.dumps(stored, indent=2) + "\n")


def main():
    torch.set_num_threads(1)
    for name, (kind, config) in MODELS.items():
        write(name, kind(config).eval(), least_decay=1.0)
    use_old_layer_types(GOLDEN / "granitemoehybrid-a/config.json")


if __name__ == "__main__":
    main()
