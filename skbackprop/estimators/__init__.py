"""The estimators: scikit-learn's conventions around the training of networks."""
