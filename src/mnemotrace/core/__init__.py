"""Vocabulary: sites, traces, edits, artifacts. Imports torch, safetensors and jaxtyping only."""
