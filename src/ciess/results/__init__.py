"""What runs came to, as plain data: reports are made of it, runs fill it."""
