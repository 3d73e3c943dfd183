"""Writes tokenizer_cases.json: what transformers' CLIPTokenizer makes of texts, for several folders of a small vocabulary.

Run: python3 tests/golden/make_tokenizer.py [bpe_simple_vocab_16e6.txt.gz]     (transformers 5.23, tokenizers 0.23)

The small vocabulary is the byte alphabet and merges learnt here from a few lines. With OpenAI's vocabulary as an argument the ids
under that one are written too; without, those that the file has are kept.
  texts      hexadecimal UTF-8
  letters    the same, of few letters
  folders    NAME: {files: {file: content}, words: "texts" or "letters", ids: [[…]], decoded: [hexadecimal], framed: [[…]] of 12 tokens};
             vocab.json and merges.txt are those of "plain" where a folder has none; ids null: as plain's; decoded is plain's alone
  real       ids of the texts under OpenAI's vocabulary
"""
import collections
import gzip
import json
import os
import random
import sys
import tempfile

from transformers import CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
FRAME = 12
START, END = "<|startoftext|>", "<|endoftext|>"

LINES = """a photo of a cat, a photograph of an astronaut riding a horse on the moon, highly detailed, sharp focus, cinematic light
the quick brown fox jumps over the lazy dog; it's the dog's day, they're here, we've been there, i'm sure she'll say he'd won't
oil painting of a castle in the mountains at sunset, 8k, trending on artstation, by greg rutkowski, masterpiece, best quality!!!
portrait of a woman with red hair and green eyes, soft light, 50mm lens, f/1.8, bokeh... studio photo, black and white (monochrome)
une forêt enchantée près d'un château, der schöne könig, el niño pequeño, привет мир, здравствуй мир, γειά σου κόσμε, 日本語 日本 東京"""

WORDS = " ".join(f"word{i} {'the quick brown fox jumps over a lazy dog'.split()[i % 9]}" for i in range(100))
TEXTS = [
    "", " ", " \t\n ", "a photo of a cat", "A Photo Of A CAT", "  leading and trailing  ", "a  b\t\tc\n\nd\r\ne", "hello, world!", "!!!", "wow!!! yes!?",
    "it's they're we've i'm she'll he'd won't", "IT'S THEY'RE WE'VE I'M SHE'LL HE'D", "'s 't 're 've 'm 'll 'd", "''s !'s 's's'd'", "rock'n'roll 'tis",
    "it\u2019s a \u201cquote\u201d \u2014 dash\u2026", "1 22 333 4444", "50mm f/1.8 8k 3d", "½ ² Ⅷ ٣ ५ ⑤ 1½", "x² + y³ = z¹", "no_space-between.words/here",
    "(masterpiece:1.2), [[best quality]], {x|y}", "éèüñÅåç", "e\u0301e\u0300u\u0308n\u0303A\u030Aa\u030Ac\u0327", "q\u0323\u0301 q\u0301\u0323 \u1E9B\u0323", "İstanbul ıI ẞß ǅ",
    "ΣΑΣ σας ΟΔΥΣΣΕΎΣ", "ПРИВЕТ мир Ёлка", "日本語の猫、東京タワー", "中文 测试 猫在月亮上", "한글 \u1112\u1161\u11AB \uD55C", "ไทย ภาษา กำ", "हिन्दी क्षत्रिय",
    "العربية مَرْحَبًا", "עִבְרִית שלום", "\u202Bעברית\u202C abc", "😀 😀😀 a😀b", "👩\u200D👩\u200D👧\u200D👦 🏳\uFE0F\u200D🌈 🇩🇪 👍🏽", "☃️ ♥ → ∑ ©", "a\u00A0b\u3000c\u2003d\u2028e\u1680f",
    "zero\u200Bwidth\uFEFFno\u2060break", "a\u0000b \u0001\u0002 \u007F\u0080\u0085x\u001Cy", "\uFFFD \uFFFE \U0010FFFF", "ﬁ ﬂ Ａ１ ㎏ ℌ", "\u0301 \u0301a \u0345\u0301",
    "a" + "\u0301\u0323\u0327\u0334" * 3 + "b", f"a {START} b {END} c", f"{START}{END}x{END}", f"a <|StartOfText|>b<|ENDOFTEXT|>!!", f"!{START}! {START[:-1]} |> <|",
    f"!!<|EndOfText|>!!", f"x{END}\u0338y", "wo</w>rd </w> c</w> d", "<mask> <TOKEN> <token>", "Ġ Ċ Â ĥ", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 60,
    "the" * 40, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚", "\u1C89 \U00010D50 \U00031350\U00031351 \U00011F50", "a\u1AC1\u0323b\u0898\u0301", WORDS, "tail\n",
]


def alphabet():
    own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = [chr(b) for b in own]
    letters += [chr(256 + i) for i in range(256 - len(own))]
    return letters


def learn(count):
    """Merges of the most frequent pairs, the classic way."""
    by_byte = {}
    own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    others = [b for b in range(256) if b not in own]
    by_byte.update({b: chr(b) for b in own})
    by_byte.update({b: chr(256 + i) for i, b in enumerate(others)})
    words = collections.Counter()
    for word in LINES.split():
        letters = [by_byte[b] for b in word.encode()]
        letters[-1] += "</w>"
        words[tuple(letters)] += 1
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        after = collections.Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append(word[i] + word[i + 1])
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            after[tuple(out)] += n
        words = after
    return merges


def tables(merges):
    letters = alphabet()
    tokens = letters + [x + "</w>" for x in letters] + ["".join(m) for m in merges] + [START, END]
    return {t: i for i, t in enumerate(tokens)}, "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)


def odd_tables():
    """Merges in no sensible order, some of them twice, as no training makes them."""
    rng = random.Random(7)
    tokens = [x + end for x in "abcd" for end in ("", "</w>")]
    merges = []
    while len(merges) < 160:
        pair = (rng.choice([t for t in tokens if not t.endswith("</w>")]), rng.choice(tokens))
        if len("".join(pair)) < 16:
            merges.append(pair)
            if "".join(pair) not in tokens:
                tokens.append("".join(pair))
    rng.shuffle(merges)
    tokens += [START, END]
    vocab = {t: 3 * i for i, t in enumerate(tokens)}       # with holes
    return vocab, "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges)


def added(content, **more):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False, **more}


def folders(vocab, merges):
    text = json.dumps
    plain = {"vocab.json": text(vocab, ensure_ascii=False, separators=(",", ":")), "merges.txt": merges}
    size = len(vocab)
    # As the folders of Stable Diffusion 1 have it.
    old = {k: {"__type": "AddedToken", **added(v)} for k, v in (("bos_token", START), ("eos_token", END), ("unk_token", END))}
    old |= {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77, "pad_token": END}
    old_map = {"bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": END}
    all_same = {"bos_token": added(START), "eos_token": added(END), "unk_token": added(END), "pad_token": added(END)}
    # As those of SDXL's second encoder, after it was saved again.
    new = {"pad_token": "!", "bos_token": START, "eos_token": END, "unk_token": END, "model_max_length": 77, "added_tokens_decoder": {
        "0": added("!", normalized=False, special=True), str(size - 2): added(START, special=True), str(size - 1): added(END, special=True)}}
    # Textual inversion: tokens of its own behind the vocabulary.
    inversion = {**new, "pad_token": END, "added_tokens_decoder": {
        **{k: v for k, v in new["added_tokens_decoder"].items() if k != "0"}, str(size): added("<Token>", special=False)}}
    without = {t: i for t, i in vocab.items() if t[0] not in "Ï×Ð"}
    kept = [m for m in merges.split("\n")[1:] if m and all(p in without for p in m.split(" ")) and m.replace(" ", "") in without]
    odd_vocab, odd_merges = odd_tables()
    return {
        "plain": plain,
        "old": {"tokenizer_config.json": text(old), "special_tokens_map.json": text(old_map)},
        "same": {"special_tokens_map.json": text(all_same)},
        "pad": {"tokenizer_config.json": text({"pad_token": "!", "unk_token": None})},
        "new": {"tokenizer_config.json": text(new), "special_tokens_map.json": text({"pad_token": "a"})},
        "inversion": {"tokenizer_config.json": text(inversion)},
        "added": {"added_tokens.json": text({"<Token>": size, "<mask>": size + 1}), "special_tokens_map.json": text({"mask_token": "<mask>"})},
        "unknown": {"vocab.json": text(without), "merges.txt": "#version: 0.2\n" + "\n".join(kept) + "\n"},
        "odd": {"vocab.json": text(odd_vocab), "merges.txt": odd_merges},
        "whole": {},
    }


def hexed(s):
    return s.encode().hex()


def write(folder, files):
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8", newline="") as out:
            out.write(content)


def answers(folder, texts):
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=10**6)
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    framed = [tokenizer(t, padding="max_length", truncation=True, max_length=FRAME)["input_ids"] for t in texts]
    return {"ids": ids, "decoded": [hexed(tokenizer.decode(i)) for i in ids], "framed": framed}


def real(path):
    with gzip.open(path, "rt", encoding="utf-8") as f:
        merges = [tuple(line.split()) for line in f.read().split("\n")[1:49152 - 256 - 2 + 1]]
    vocab, _ = tables(merges)
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    return [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS]


def main():
    path = os.path.join(HERE, "tokenizer_cases.json")
    rng = random.Random(3)
    out = {
        "texts": [hexed(t) for t in TEXTS],
        "letters": [hexed("".join(rng.choice("abcd") for _ in range(rng.randrange(1, 40)))) for _ in range(60)],
        "folders": {},
    }
    vocab, merges = tables(learn(300))
    for name, files in folders(vocab, merges).items():
        words = "letters" if name == "odd" else "texts"
        with tempfile.TemporaryDirectory() as folder:
            write(folder, {"vocab.json": json.dumps(vocab), "merges.txt": merges, **files})
            if name == "whole":
                saved = os.path.join(folder, "saved")
                CLIPTokenizer.from_pretrained(folder).save_pretrained(saved)
                files = {n: open(os.path.join(saved, n), encoding="utf-8").read() for n in sorted(os.listdir(saved))}
                folder = saved
            out["folders"][name] = {"files": files, "words": words, **answers(folder, [bytes.fromhex(t).decode() for t in out[words]])}
    plain = out["folders"]["plain"]
    for name, folder in out["folders"].items():
        if name != "plain":
            del folder["decoded"]
            if folder["words"] == "texts":
                folder["ids"] = [None if a == b else a for a, b in zip(folder["ids"], plain["ids"])]
        if name not in ("plain", "pad", "new"):
            del folder["framed"]
    if len(sys.argv) > 1:
        out["real"] = real(sys.argv[1])
    elif os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            out["real"] = json.load(f)["real"]
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes;", {n: (list(v["files"]), sum(i is not None for i in v["ids"])) for n, v in out["folders"].items()})


if __name__ == "__main__":
    main()
