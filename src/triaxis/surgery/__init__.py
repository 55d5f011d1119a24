"""Surgery: find what can be cut in a model, plan a cut in integers, and apply it."""
