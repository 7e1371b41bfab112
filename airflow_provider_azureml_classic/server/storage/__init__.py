"""Places outside the server: which may be asked, and how."""
