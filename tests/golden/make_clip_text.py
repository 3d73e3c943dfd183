"""Writes clip_text.safetensors: outputs of transformers' CLIPTextModel and CLIPTextModelWithProjection on tiny models.

Run: python3 tests/golden/make_clip_text.py     (torch 2.15, transformers 5.23, safetensors 0.8)

Weights come from golden_weights.py; the file holds ids and results, computed in float64, so the results are good to the last bit of
float32.
  metadata   "config.MODEL": its config.json
  MODEL.CASE.ids (B, T), MODEL.CASE.last (with the final norm), MODEL.CASE.pooled (through the projection where there is one)
  MODEL.CASE.state.I: what leaves layer I (0: the embeddings), of the first case
  MODEL.CASE.skip: the state before the last, with the final norm
"""
import json
import os

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import golden_weights

MODELS = {
    # Built as Stable Diffusion 1's; the old kind of eos_token_id.
    "quick": (CLIPTextModel, dict(
        vocab_size=814, hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=77,
        hidden_act="quick_gelu", bos_token_id=0, eos_token_id=2)),
    # As SDXL's second.
    "gelu": (CLIPTextModelWithProjection, dict(
        vocab_size=100, hidden_size=24, intermediate_size=40, num_hidden_layers=4, num_attention_heads=3, max_position_embeddings=20,
        hidden_act="gelu", bos_token_id=98, eos_token_id=99, projection_dim=20, layer_norm_eps=1e-3)),
    "tanh": (CLIPTextModel, dict(
        vocab_size=50, hidden_size=12, intermediate_size=31, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=9,
        hidden_act="gelu_new", eos_token_id=7)),
}
CASES = {"quick": [(1, 77), (2, 9), (3, 1)], "gelu": [(3, 20), (1, 5), (2, 13)], "tanh": [(2, 9)]}


def text_ids(name, case, config, n, tokens):
    rng = np.random.default_rng([len(name), case])
    ids = rng.integers(0, config.vocab_size - 2, (n, tokens))
    end = config.vocab_size - 1 if config.eos_token_id == 2 else config.eos_token_id
    ids[ids == end] = 0
    for row in range(n):
        # The end at another place in each text, and once more behind it; none in the third.
        if row < 2 and tokens > 4:
            ids[row, tokens // 2 - row:: 2] = end
    return ids.astype(np.int64)


def fill(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            short = name.removeprefix("text_model.")
            parameter.copy_(torch.from_numpy(golden_weights.weight(short, tuple(parameter.shape))).double())
    return model


def f32(t):
    return np.ascontiguousarray(t.to(torch.float32).numpy())


def main():
    out, metadata = {}, {}
    for name, (kind, settings) in MODELS.items():
        config = CLIPTextConfig(**settings)
        config._attn_implementation = "sdpa"       # the eager one computes its softmax in float32
        model = fill(kind(config).double().eval())
        written = json.loads(config.to_json_string(use_diff=False))
        written["architectures"] = [kind.__name__]
        metadata[f"config.{name}"] = json.dumps(written, sort_keys=True)
        metadata[f"tensors.{name}"] = str(len(list(model.named_parameters())))
        norm = model.text_model.final_layer_norm if hasattr(model, "text_model") else model.final_layer_norm
        for case, (n, tokens) in enumerate(CASES[name]):
            ids = text_ids(name, case, config, n, tokens)
            with torch.no_grad():
                y = model(torch.from_numpy(ids), output_hidden_states=True)
                skip = norm(y.hidden_states[-2])
            key = f"{name}.{case}"
            out[f"{key}.ids"] = ids
            out[f"{key}.last"] = f32(y.last_hidden_state)
            out[f"{key}.pooled"] = f32(y.text_embeds if kind is CLIPTextModelWithProjection else y.pooler_output)
            out[f"{key}.skip"] = f32(skip)
            if case == 0:
                assert len(y.hidden_states) == config.num_hidden_layers + 1
                for i, state in enumerate(y.hidden_states):
                    out[f"{key}.state.{i}"] = f32(state)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip_text.safetensors")
    save_file(out, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(path, os.path.getsize(path), "bytes")
    for key, value in out.items():
        if value.dtype == np.float32:
            print(key, value.shape, "range", value.min(), value.max(), "std", value.std())


if __name__ == "__main__":
    main()
