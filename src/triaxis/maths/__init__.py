"""The decisions, as plain mathematics on numpy arrays: fit the accuracy predictor, model the cost, maximise under the budget."""
