"""What everybody may know of an endpoint, as pages and documents."""
