"""What people call the score of a task. Texts are written for accuracy; where a run's task has another name for it, they say that."""

from __future__ import annotations

import re

SCORES = {"segmentation": "mean IoU", "detection": "mean average precision"}
"""By task; the scores of all others are called accuracy."""

_WORD = re.compile(r"""(?<![\w."'=/-])(?<!target:\ )(?P<article>[Aa]n\ )?(?P<first>[Aa])ccurac(?P<end>y|ies)(?![\w"'=/-])""")
"""The word in prose; not in names of fields, in code, and in the setting ``target: accuracy``."""


def score_of(task: str | None) -> str:
    """Return what the score of a task is called."""
    return SCORES.get(task or "", "accuracy")


def said(text: str, score: str) -> str:
    """Return a text, also of a page, that calls the score by its name instead of accuracy: mean IoU, Mean IoU, a mean IoU, mean IoUs."""
    if score == "accuracy":
        return text

    def named(found: re.Match[str]) -> str:
        article = found["article"].replace("n ", " ") if found["article"] else ""
        word = score[0].upper() + score[1:] if found["first"] == "A" else score
        return f"{article}{word}{'s' if found['end'] == 'ies' else ''}"

    return _WORD.sub(named, text)
