"""One screen per file, named after what the person sees."""
