"""Neural networks in NumPy and SciPy: stacks of networks, their passes and their training.

Every array has the member axis first; one network is a stack of one member.
"""
