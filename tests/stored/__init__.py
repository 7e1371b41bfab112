"""What each released version stored, and the program that writes it."""
