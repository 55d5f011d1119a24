"""The embedded digits: 1,797 scanned handwritten digits of 8 x 8 pixels, for demos and tests that fetch nothing.

Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998, the test
part, in the order in which scikit-learn hands it out. Licence: CC BY 4.0 (NOTICE).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("digits.npz")
LEVELS = 16
"""The largest value of a pixel; 0 is white paper."""


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, shape (1797, 8, 8), whole numbers from 0 to 16, and their labels, shape (1797,), 0 to 9."""
    with np.load(FILE, allow_pickle=False) as stored:
        return stored["images"], stored["labels"].astype(np.int64)
