"""Beliefs about causes: scores of graphs, exact and sampled posteriors, and memories that rest on them."""
