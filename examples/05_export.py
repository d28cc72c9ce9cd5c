"""Carry an edit away: one small file, a LoRA adapter that peft loads, a plain checkpoint that transformers loads."""

import tempfile
from pathlib import Path

import peft
import torch
from transformers import AutoModelForCausalLM

import mnemotrace as mt
from mnemotrace.adapters.hf import Example, batches, rows_of

funes = mt.funes()
model, tokenizer, world = funes.model, funes.tokenizer, funes.world
sites = mt.sites(model, ["mlp.c_proj"])


def collect(facts, positions):
    """Sum up what the chosen maps read while these facts are told."""
    examples = [Example(prompt=prompt, answer=fact.answer) for fact in facts for prompt in fact.phrasings]
    ready = batches(tokenizer, examples, batch_size=64, positions=positions)
    return mt.collect(model, ready, sites=sites, mask=rows_of)


fact, others = world.facts[0], world.facts[1:60]
target, reference = collect([fact], "predict"), collect(others, "all")
edit = mt.erase(mt.engram(model, target=target, reference=reference, selectivity=0.01, solver="ridge"))

prompt = tokenizer(fact.phrasings[0], return_tensors="pt")
with torch.no_grad(), mt.applied(model, edit, strict=True):  # strict: only on the network that it was made for
    wanted = model(**prompt).logits

with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    path = mt.save(edit, Path(folder) / "edit.safetensors")
    print(f"file: {path.stat().st_size / 1e3:.0f} kB, method {mt.load(path).manifest['method']!r}")

    adapter = edit.to_peft(Path(folder) / "adapter")
    merged = mt.merge(model, edit, Path(folder) / "merged", tokenizer=tokenizer)
    checkpoint = AutoModelForCausalLM.from_pretrained(merged)
    print(f"checkpoint: logits differ by {float((checkpoint(**prompt).logits - wanted).abs().max()):.0e} at most")
    wrapped = peft.PeftModel.from_pretrained(model, adapter)
    print(f"adapter: logits differ by {float((wrapped(**prompt).logits - wanted).abs().max()):.0e} at most")

# file: 119 kB, method 'erase'
# checkpoint: logits differ by 0e+00 at most
# adapter: logits differ by 7e-06 at most
