"""NumPy models shared by training and serving: implicit ALS, fold-in, EASE, item-kNN, smoothing."""
