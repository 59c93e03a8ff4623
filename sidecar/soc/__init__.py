"""See, link, contain: what is noticed in the record, and what is done about it.

Nothing here is on the way of a call: what was committed is read behind a cursor, and a containment
reaches decisions by the tenant's epoch, like a frozen agent does.
"""
