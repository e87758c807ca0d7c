"""The models on this machine and the catalogue: names become files. Never loads a model."""
