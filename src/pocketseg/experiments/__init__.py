"""What trains: one run, its folds and stages, sweeps and their workers, and all that is checked before."""
