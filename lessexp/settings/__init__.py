"""The settings of a run: which keys exist, which values they take, and what an absent key means."""
