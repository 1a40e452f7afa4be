"""PaliGemma 1 and 2: a SigLIP tower, one linear layer, a Gemma whose whole prompt sees itself."""
