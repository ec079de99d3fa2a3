"""Names that may be spelled in several ways."""


def plain(name: str) -> str:
    """Return a name without capitals, dashes and underlines: "cifar10" for "CIFAR-10"."""
    return name.lower().replace("-", "").replace("_", "")
