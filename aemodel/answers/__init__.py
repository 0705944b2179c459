"""What a fitted or loaded model answers: risks, outcomes, calibration, identification."""
