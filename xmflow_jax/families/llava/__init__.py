"""LLaVA-1.5 in Hugging Face format: a CLIP tower, a projector, a Llama; the image stands in the prompt."""
