"""Training: the loop, its teacher, its precision, and evaluation."""
