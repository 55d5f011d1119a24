"""The paper's evidence, and the same analysis for anyone's own measurements."""
