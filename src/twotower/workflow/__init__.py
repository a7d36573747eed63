"""What the product does with it all: train, evaluate, bundle, run the whole job."""
