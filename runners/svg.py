"""Pictures made fit to stand in a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

INK, MUTED, RULE = "#1f2328", "#6a7078", "#dde0e4"
AGENT = "agent-"
"""Begins the id, and in a page the class, of what is an agent's."""


def inline(svg: bytes, prefix: str, description: str) -> str:
    """A standalone picture made fit to stand among others in a page: own ids, no style sheet, the page's colours."""
    name = "{http://www.w3.org/2000/svg}"
    link = "{http://www.w3.org/1999/xlink}href"
    ElementTree.register_namespace("", name[1:-1])
    ElementTree.register_namespace("xlink", link[1:-5])
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        if (whose := element.get("id", "")).startswith(AGENT):
            element.set("class", whose)
            del element.attrib["id"]
        for child in [c for c in element if c.tag in (f"{name}style", f"{name}metadata")]:
            element.remove(child)
        for key, value in element.attrib.items():
            if key == "d":
                element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", value))
            elif key == "id":
                element.set(key, prefix + value)
            elif key == link:
                element.set(key, value.replace("#", f"#{prefix}"))
            else:
                value = value.replace("url(#", f"url(#{prefix}")
                for colour, variable in ((INK, "--ink"), (MUTED, "--muted"), (RULE, "--rule")):
                    value = value.replace(colour, f"var({variable})")
                element.set(key, value)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")
