"""What the command line offers, written down for shells and for ``man``, from its own parsers."""
