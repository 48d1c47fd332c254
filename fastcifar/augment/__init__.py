"""One augmentation policy and one set of draws, applied by several backends that must agree."""
