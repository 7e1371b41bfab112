"""What is measured by hand; nothing here is part of the package."""
