"""What every test may use: the offline setting, tiny random models, the optional data folder.

The environment is set before torch and transformers are imported. Shapes and types written in the signatures are
checked at run time here and nowhere else (jaxtyping with beartype), so they cost a user nothing.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    MPLBACKEND="Agg",
)

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).parents[1]
CHECKED = ["mnemotrace.core"]
WIDTH, LAYERS, HEADS, VOCABULARY, LENGTH = 32, 2, 4, 64, 64

install_import_hook(CHECKED, "beartype.beartype")
torch.set_num_threads(1)

settings.register_profile("house", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("house")


def pytest_collection_finish() -> None:
    """Collect garbage rarely: torch and transformers leave a million objects that are looked through each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(500_000, 100, 100)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real test data, MNEMOTRACE_DATA or ../shared/data; the test is skipped where there is none."""
    folder = Path(os.environ.get("MNEMOTRACE_DATA") or REPOSITORY / "../shared/data").resolve()
    if not folder.is_dir():
        pytest.skip(
            f"no test data: set MNEMOTRACE_DATA to a folder with mnist/, stories260k/, ... (looked in {folder})"
        )
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A generator seeded with 0."""
    return torch.Generator().manual_seed(0)


def _build(architecture: str, configuration: str, seed: int, **options: object) -> torch.nn.Module:
    """Draw a random transformers model from its configuration, without touching the global random state."""
    import transformers

    config = getattr(transformers, configuration)(**options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, architecture)(config).float().eval()


def _gpt2(seed: int = 0, **overrides: object) -> torch.nn.Module:
    options = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCABULARY, "n_positions": LENGTH}
    options |= {"bos_token_id": 0, "eos_token_id": 1, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return _build("GPT2LMHeadModel", "GPT2Config", seed, **(options | overrides))


def _rotary(family: str, seed: int, overrides: dict[str, object], **more: object) -> torch.nn.Module:
    options = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS}
    options |= {"num_attention_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH}
    options |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None} | more
    return _build(f"{family}ForCausalLM", f"{family}Config", seed, **(options | overrides))


def _llama(seed: int = 0, **overrides: object) -> torch.nn.Module:
    return _rotary("Llama", seed, overrides, num_key_value_heads=2)


def _qwen2(seed: int = 0, **overrides: object) -> torch.nn.Module:
    return _rotary("Qwen2", seed, overrides, num_key_value_heads=2)


def _neox(seed: int = 0, **overrides: object) -> torch.nn.Module:
    return _rotary("GPTNeoX", seed, overrides)


TINY = {"gpt2": _gpt2, "llama": _llama, "qwen2": _qwen2, "neox": _neox}
Builder = Callable[..., torch.nn.Module]


@pytest.fixture
def tiny_gpt2() -> Builder:
    """Builder of a GPT-2 with Conv1D maps and a tied head: `tiny_gpt2(seed=0, **config)`; 2 layers, width 32."""
    return _gpt2


@pytest.fixture
def tiny_llama() -> Builder:
    """Builder of a Llama (gated MLP, 2 key-value heads, no bias): `tiny_llama(seed=0, **config)`."""
    return _llama


@pytest.fixture
def tiny_qwen2() -> Builder:
    """Builder of a Qwen2 (as Llama, with biases on queries, keys and values): `tiny_qwen2(seed=0, **config)`."""
    return _qwen2


@pytest.fixture
def tiny_neox() -> Builder:
    """Builder of a GPT-NeoX (fused queries, keys and values; parallel residual): `tiny_neox(seed=0, **config)`."""
    return _neox


@pytest.fixture(params=list(TINY))
def tiny_lm(request: pytest.FixtureRequest) -> torch.nn.Module:
    """A fresh tiny causal language model of each family in turn."""
    return TINY[request.param]()


@pytest.fixture
def tokens() -> torch.Tensor:
    """A batch of token ids `(4, 12)` for the tiny language models."""
    return torch.randint(2, VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))
