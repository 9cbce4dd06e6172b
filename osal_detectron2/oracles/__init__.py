"""Who answers a query: the labels hidden in the data set (`simulated`) or people (`exchange`)."""
