"""Writes inversion.safetensors: a token added to a text encoder, its place in texts, what comes of it, its gradient.

Run: python3 tests/golden/make_inversion.py     (torch 2.15, transformers 5.23, safetensors 0.8)

The token is added to the tokenizer (add_tokens) and rows to the encoder's table, as diffusers' textual_inversion script
and load_textual_inversion() do it: a token of n vectors is n tokens, "<t>", "<t>_1" …, and "<t>" in a text stands for
all of them. The vocabulary is "plain" of tokenizer_cases.json, weights and rows come from golden_weights.py; all is
computed in float64.
  metadata  "prompt.K": the text
  K.ids (77), K.context (77, width)
  rows.grad (3, width): the gradient of Σ context·w over all prompts, w the values "inversion.loss.K", exponent 7
"""
import json
import tempfile

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import golden_weights
from make_prompt import CONFIG, FOLDER, WIDTH

TOKEN, COUNT = "<Cat-toy>", 3
PROMPTS = ["a photo of <Cat-toy>", "<Cat-toy>", "", "a <cat-toy> b", "x<Cat-toy>y, <CAT-TOY>.", "a photo of the king",
           "<Cat-toy><Cat-toy> of <Cat-toy >", "Cat-toy < Cat-toy> é<Cat-toy>é  <Cat-toy>\n<Cat-toy>",
           "a b c d e f g h " * 9 + "<Cat-toy> i j", "<|endoftext|><Cat-toy>"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        files = json.load(open(f"{FOLDER}/tokenizer_cases.json", encoding="utf-8"))["folders"]["plain"]["files"]
        for name, content in files.items():
            open(f"{folder}/{name}", "w", encoding="utf-8").write(content)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    names = [TOKEN] + [f"{TOKEN}_{i}" for i in range(1, COUNT)]
    assert tokenizer.add_tokens(names) == COUNT
    first = tokenizer.convert_tokens_to_ids(TOKEN)
    model = golden_weights.fill(CLIPTextModel(CLIPTextConfig(**CONFIG)).double().eval())
    assert first == CONFIG["vocab_size"], first
    rows = torch.from_numpy(golden_weights.values("inversion.rows", 7, (COUNT, WIDTH))).double()
    table = torch.cat([model.embeddings.token_embedding.weight.detach(), rows])
    model.embeddings.token_embedding = torch.nn.Embedding.from_pretrained(table, freeze=False)
    table = model.embeddings.token_embedding.weight
    out, metadata, loss = {}, {}, 0
    for k, text in enumerate(PROMPTS):
        # tokens are found in lower case too: each then becomes all of them
        ids = tokenizer(text, add_special_tokens=False).input_ids
        ids = [j for i in ids for j in (range(first, first + COUNT) if i == first else [i])][:75]
        ids = [CONFIG["bos_token_id"]] + ids + [CONFIG["eos_token_id"]] * (76 - len(ids))
        context = model(torch.tensor([ids])).last_hidden_state[0]
        w = torch.from_numpy(golden_weights.values(f"inversion.loss.{k}", 7, context.shape)).double()
        loss = loss + (context * w).sum()
        metadata[f"prompt.{k}"] = text
        out |= {f"{k}.ids": torch.tensor(ids), f"{k}.context": context.detach().float().contiguous()}
        print(k, [i for i in ids if i != CONFIG["eos_token_id"]])
    loss.backward()
    out["rows.grad"] = table.grad[first:].float().contiguous()
    save_file(out, f"{FOLDER}/inversion.safetensors", metadata)


if __name__ == "__main__":
    main()
