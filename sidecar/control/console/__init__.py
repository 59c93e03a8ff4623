"""The console: pages on the control listener for approvers, operators and whoever looks.

Every page shows what a route of the API gives, and every form does what a route of the API does, as
the same person in the same roles: there is nothing here that the API cannot do. Pages are rendered
at the server and work without a script; nothing on them is loaded from elsewhere.
"""
