"""Forward passes over the pool, and the dialogue between a strategy and the model."""
