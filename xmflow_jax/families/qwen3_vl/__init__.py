"""Qwen3-VL: Qwen2-VL's form with DeepStack, a table of positions in its tower, and Qwen3 as its decoder."""
