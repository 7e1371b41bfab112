"""Web services and endpoints: the rules, with no HTTP and no SQL."""
