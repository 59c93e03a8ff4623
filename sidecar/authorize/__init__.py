"""`POST /v1/authorize`: tools that are not HTTP ask here before they act, and act themselves."""
