"""An index and its model as a service: a page, and an API in JSON."""
