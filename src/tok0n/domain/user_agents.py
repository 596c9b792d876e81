"""Name the browser of a `User-Agent` header, for people. Knows the common ones only."""

_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


def browser_name(agent: str) -> str:
    """Return a browser and its system, such as "Chrome on Windows", or an unknown user agent as it is.

    The first match wins, because many user agents also name other browsers.
    """
    name = next((name for word, name in _BROWSERS if word in agent), None)
    system = next((name for word, name in _SYSTEMS if word in agent), None)
    if name is None:
        return agent or "Unknown browser"
    return name if system is None else f"{name} on {system}"
