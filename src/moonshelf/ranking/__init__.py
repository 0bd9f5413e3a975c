"""Room 7c, click prediction: what users did before, the rows to learn from, models, calibration, estimates."""
