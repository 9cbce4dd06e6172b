"""A trained detector outside of the loop: loaded read-only, exported, and run on images."""
