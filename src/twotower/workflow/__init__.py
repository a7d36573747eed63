"""Jobs of the product: train, evaluate, refit, bundle, or all of them in one run."""
