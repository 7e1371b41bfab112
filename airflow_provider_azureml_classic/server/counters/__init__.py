"""What is counted of calls: how many, how fast, and what they ask; an hour in memory, then in the database."""
