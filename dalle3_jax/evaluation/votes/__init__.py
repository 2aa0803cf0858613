"""Votes of people between pictures: the page that asks for them, and ratings of what they chose."""
