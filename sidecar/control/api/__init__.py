"""The control API `/v1`: what people and services may ask and do, each within one tenant."""
