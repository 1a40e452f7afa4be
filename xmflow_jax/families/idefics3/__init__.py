"""Idefics3 and the first SmolVLMs: SigLIP over the tiles of an image, patches joined in squares, a Llama."""
