"""InternVL 3 and its like in Hugging Face format: InternViT over tiles, patches joined in squares, Qwen2 or Qwen3."""
