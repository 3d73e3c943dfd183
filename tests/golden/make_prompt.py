"""Writes prompt.safetensors: prompts encoded as ComfyUI encodes them, over transformers' tokenizer and CLIPTextModel.

Run: python3 tests/golden/make_prompt.py        (torch 2.15, transformers 5.23, safetensors 0.8)

The rules are written down here once more, from their description: weights (a parenthesised group multiplies by 1.1, or
sets what stands behind its last colon), backslashes, "embedding:name", chunks of 75 tokens in which a group of fewer
than 8 is not torn apart, z = z0 + w·(z − z0) against an empty prompt, chunks behind each other, pooled from the first.
Embeddings are rows added to the model's own table of tokens. The vocabulary is "plain" of tokenizer_cases.json, weights
and vectors come from golden_weights.py; all is computed in float64.
  metadata  "prompt.K": the text; "layer.K": which state it is, "-1" the last, always behind the final norm
  K.context (chunks·77, width), K.pooled (width)
"""
import json
import os
import re
import tempfile

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import golden_weights

FOLDER = os.path.dirname(os.path.abspath(__file__))
WIDTH = 32
CONFIG = dict(vocab_size=814, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
              max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=812, eos_token_id=813)
# name: (name of the values, how many); "deep" lies in a subfolder, "rank1" has one dimension
EMBEDDINGS = {"three": 3, "rank1": 1, "ten": 10, "deep": 2, "style.v2": 1}
LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z "
PROMPTS = [
    ("", -1), ("a photo of the king", -1), ("(a:1.2) b (c) ((d)) ((e:0.5) f:1.5)", -1),
    ("\\(a\\) (b \\(c\\):1.4) [d]", -1), ("a BREAK b, (c:-1) (d:0)", -1),
    (LETTERS * 3, -1), (LETTERS * 2 + "s t u v w x y z a b c d e f g h i j k (j k l m n:1.3) o", -1),
    (LETTERS * 2 + "s t u v w x y z a b c d e f g h i (j k l m n o p q r s:1.3) o", -1),
    ("a embedding:three b", -1), ("(embedding:rank1:1.3), c\nembedding:three.safetensors d", -1),
    ("embedding:three, (x embedding:deep, y z:0.7)", -1), ("a:embedding:rank1 embedding:style.v2 embedding:missing, b", -1),
    (LETTERS * 2 + "a b c d e f g h i j k l m n o p q r s t (embedding:ten:1.2) b", -1),
    ("embedding:three (embedding:three:0.5) a", -1), ("(a photo:1.3) of the king", -2), ("a embedding:deep b", -3),
]


def rows():
    """The vectors of all embeddings, and where each begins."""
    at, parts, count = {}, [], CONFIG["vocab_size"]
    for name, n in EMBEDDINGS.items():
        at[name] = list(range(count, count + n))
        parts.append(torch.from_numpy(golden_weights.values("embedding." + name, 7, (n, WIDTH))).double())
        count += n
    return at, torch.cat(parts)


def groups(text, weight=1.0):
    """(text, weight) of every run, for text whose parentheses go in pairs; escaped ones are \\1 and \\2."""
    out, at = [], 0
    while at < len(text):
        if text[at] != "(":
            end = text.find("(", at)
            end = len(text) if end < 0 else end
            out.append((text[at:end], weight))
        else:
            depth, end = 0, at
            while True:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
                if not depth:
                    break
            inside = text[at + 1:end - 1]
            number = re.fullmatch(r"(?s)(.+):\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*", inside)
            out += groups(number[1], float(number[2])) if number else groups(inside, weight * 1.1)
        at = end
    return out


def tokens_of(tokenizer, text, at):
    """Groups of (id, weight) that belong together."""
    plain = lambda t: tokenizer(t, add_special_tokens=False).input_ids
    out = []
    for run, weight in groups(text.replace("\\(", "\1").replace("\\)", "\2")):
        run = run.replace("\1", "(").replace("\2", ")")
        for part in re.split(r"[ \n](?=embedding:)", run):
            if part.startswith("embedding:"):
                name, *rest = part.removeprefix("embedding:").split(maxsplit=1)
                bare = name.strip(",")
                known = bare.removesuffix(".safetensors")
                if known in at:
                    out.append([(i, weight) for i in at[known]])
                part = name[len(bare):] + " " + "".join(rest)
            ids = plain(part)
            if ids:
                out.append([(i, weight) for i in ids])
    return out


def chunks_of(grouped, end):
    chunks = [[]]
    for group in grouped:
        while group:
            room = 75 - len(chunks[-1])
            if len(group) <= room:
                chunks[-1] += group
                break
            if len(group) >= 8:
                chunks[-1] += group[:room]
                group = group[room:]
            chunks.append([])
    return [[(CONFIG["bos_token_id"], 1.0)] + c + [(end, 1.0)] * (76 - len(c)) for c in chunks]


def encode(model, chunks, layer, end):
    empty = [CONFIG["bos_token_id"]] + [end] * 76
    ids = torch.tensor([[i for i, _ in c] for c in chunks] + [empty])
    states = model(ids, output_hidden_states=True)
    z = model.final_layer_norm(states.hidden_states[layer])
    z0, z = z[-1], z[:-1]
    w = torch.tensor([[w for _, w in c] for c in chunks], dtype=torch.float64)[:, :, None]
    z = torch.where(w == 1, z, z0 + w * (z - z0))
    return z.reshape(-1, WIDTH), states.pooler_output[0]


def main():
    with tempfile.TemporaryDirectory() as folder:
        files = json.load(open(f"{FOLDER}/tokenizer_cases.json", encoding="utf-8"))["folders"]["plain"]["files"]
        for name, content in files.items():
            open(f"{folder}/{name}", "w", encoding="utf-8").write(content)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    at, vectors = rows()
    model = golden_weights.fill(CLIPTextModel(CLIPTextConfig(**CONFIG)).double().eval())
    table = torch.cat([model.embeddings.token_embedding.weight.detach(), vectors])
    model.embeddings.token_embedding = torch.nn.Embedding.from_pretrained(table)
    out, metadata, end = {}, {}, CONFIG["eos_token_id"]
    with torch.no_grad():
        for k, (text, layer) in enumerate(PROMPTS):
            chunks = chunks_of(tokens_of(tokenizer, text, at), end)
            context, pooled = encode(model, chunks, layer, end)
            metadata |= {f"prompt.{k}": text, f"layer.{k}": str(layer)}
            out |= {f"{k}.context": context.float().contiguous(), f"{k}.pooled": pooled.float()}
            print(k, len(chunks), [sum(i != end for i, _ in c) - 1 for c in chunks])
    save_file(out, f"{FOLDER}/prompt.safetensors", metadata)


if __name__ == "__main__":
    main()
