"""The PEP: from a request's first byte to the reply's last, with the record in between."""
