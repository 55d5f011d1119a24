"""What the arguments of a zoo's model may be: numbers, words, and lists of these; nothing that names a place.

The same rule holds for a user's configuration and for a ``plan.json`` that came from elsewhere, so that what was trained can be
loaded again, and no file on the machine or on the net is opened because an argument says so.
"""

from __future__ import annotations

import math
import re
from typing import Any

from triaxis.errors import ConfigError

PLACES = re.compile(r"^(pretrained|checkpoint|weights|cache|hf_|hub_)|(^|_)(dir|url|uri|file|filename)$|(?<!drop)(^|_)path$", re.IGNORECASE)
"""Keys under which timm and torchvision take files, addresses or folders; ``drop_path`` is a number."""

WORD = re.compile(r"[\w.+-]{0,100}")
LARGEST, DEEPEST, LONGEST = 1e6, 4, 1000


def check_args(name: str, args: dict[str, Any]) -> None:
    """Check the keyword arguments of a zoo's model.

    Raises:
        ConfigError: A key stands for a file, an address or a folder, or a value is no number, word, or list or mapping of these; names it.
    """
    _check(f"model.args of {name}", args, 0)


def _check(where: str, item: Any, depth: int) -> None:
    if depth > DEEPEST or (isinstance(item, dict | list | tuple) and len(item) > LONGEST):
        raise ConfigError(f"{where} must be nested at most {DEEPEST} deep and hold at most {LONGEST} items in each list.")
    if isinstance(item, dict):
        for key, value in item.items():
            if not isinstance(key, str) or not re.fullmatch(r"\w{1,100}", key):
                raise ConfigError(f"{where} must have names as keys, got {str(key)[:100]!r}.")
            if PLACES.search(key):
                raise ConfigError(
                    f"{where} must not hold {key}, which can name a file or an address: name a file of weights as model.weights."
                )
            _check(f"{where}, {key}", value, depth + 1)
    elif isinstance(item, list | tuple):
        for value in item:
            _check(where, value, depth + 1)
    elif isinstance(item, str):
        if not WORD.fullmatch(item):
            raise ConfigError(f"{where} must be a word of letters, digits, '_', '.', '+' and '-', no path or address, got {item[:100]!r}.")
    elif isinstance(item, int | float):
        if not (math.isfinite(item) and abs(item) <= LARGEST):
            raise ConfigError(f"{where} must be a number between {-LARGEST:g} and {LARGEST:g}, got {item:.3g}.")
    elif item is not None:
        raise ConfigError(f"{where} must be a number, a word, or a list or mapping of these, got {type(item).__name__}.")
