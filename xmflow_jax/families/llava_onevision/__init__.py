"""LLaVA-OneVision: LLaVA-NeXT's tiles, more of them, resampled where they are too many."""
