"""GQA's accuracy: the right answer, letter by letter. There is one gold answer."""


def gqa_match(answer: str, gold: str) -> float:
    """1.0 where the strings are equal, else 0.0, as GQA's own `eval.py` compares them: no case folded, nothing cut."""
    return float(answer == gold)


def gqa_match_llava(answer: str, gold: str) -> float:
    """As LLaVA's conversion for GQA's `eval.py` prepares its answers: stops at the end go, and capitals."""
    return gqa_match(answer.rstrip(".").lower(), gold)
