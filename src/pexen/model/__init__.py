"""Values and their validation: what everybody above may talk about, and nothing that acts."""
