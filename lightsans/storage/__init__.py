"""Files on disk and in object stores: locations, manifests, schemas, checkpoints."""
