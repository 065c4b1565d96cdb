"""What finds sizes: the problem, and one file for each method."""
