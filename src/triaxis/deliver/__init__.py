"""What is handed over: files checked against the live model, loading, predicting, measuring, inspecting."""
