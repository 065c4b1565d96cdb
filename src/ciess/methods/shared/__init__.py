"""What several search methods use."""
