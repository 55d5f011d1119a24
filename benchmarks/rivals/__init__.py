"""Triaxis beside what one would do without it: every arm from the same base weights, at the same cost, with the same training."""
