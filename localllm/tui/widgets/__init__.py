"""One widget per file, named after what the person sees."""
