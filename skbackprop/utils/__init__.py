"""The ground that everything stands on: arrays, checks, equality, members, workspace."""
