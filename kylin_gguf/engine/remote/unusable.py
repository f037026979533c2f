"""What a server sends that no answer can be made of."""


class Unusable(Exception):
    """Says in a few words what was sent; whoever knows the server makes a RemoteFailed of it."""
