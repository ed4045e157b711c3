"""From an estimator's parameters and data to trained networks."""
