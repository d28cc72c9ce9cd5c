"""How memories come to be by learning: score matching, schemas, consolidation by replay."""
