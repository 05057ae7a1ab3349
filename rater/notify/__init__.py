"""Messages to people and programs about an account: which an event gives, to whom, and what they say. No sending here."""
