"""What a knockout does to an answer, one module for each way of measuring it; `registry.MEASURES` has them all."""
