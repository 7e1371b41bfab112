"""Days of retraining on a virtual clock, from one seed: ``make simulate``."""
