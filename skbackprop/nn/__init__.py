"""The engine: stacks of networks and their training, on NumPy and SciPy alone.

Every array has the member axis first, so one network is a stack of one.
"""
