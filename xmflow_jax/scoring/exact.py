"""Exact match, the accuracy of the first study."""


def exact_match(predicted: str, gold: str) -> float:
    """1.0 if the decoded answer is the gold answer, else 0.0.

    The rule of the released code of arXiv 2411.18620: the prediction is stripped and lower-cased, the gold answer is
    taken as it is, so that "Red" never equals a gold "Red". LLaVA's own GQA evaluation also drops a final "." of the
    prediction; the study does not, and neither does this.
    """
    return float(predicted.strip().lower() == gold)
