"""Approvals: one exact action waits for the yes of people, and is spent by the call that got it."""
