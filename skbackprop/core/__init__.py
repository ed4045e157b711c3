"""The numerical core: stacks of networks and their training, on NumPy and SciPy alone.

Every array has the member axis first, so one network is a stack of one. Nothing in here
imports scikit-learn; the estimators are outer rooms that call in.
"""
