"""pip's index settings as uv's: `pip config list | python uv_options.py` prints `export` lines.

uv does not read pip's configuration. Whoever works behind a mirror has usually set up pip alone, so
`setup.sh` translates it. What is already set for uv, by its own variables, stays. Standard library
only: it runs before any package is installed.
"""

import ast
import os
import re
import shlex
import sys
from collections.abc import Mapping

VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "no-index": ("UV_NO_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "proxy": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
}
"""pip's option -> the variable that uv reads, then others that uv takes for the same."""
SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration that `pip install` reads, from the weakest to the strongest."""
COMMAS = {"find-links"}
"""Options whose values uv separates by commas; the others by spaces."""


def pip_options(listed: str) -> dict[str, str]:
    """Options that `pip install` would use, of the output of `pip config list`.

    Args:
        listed: lines such as `global.index-url='https://...'`.

    Returns:
        Option -> value, several of them separated by spaces.
    """
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listed.splitlines():
        match = re.fullmatch(r"(global|install|:env:)\.([a-z-]+)=(['\"].*)", line)
        if match:
            section, option, value = match.groups()
            found[section][option] = " ".join(ast.literal_eval(value).split())
    return {option: value for part in found.values() for option, value in part.items() if value}


def uv_environment(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that say what pip's options say.

    Args:
        options: of `pip_options`.
        environment: the variables that are set; what they set is not returned.

    Returns:
        Variable -> value. With an extra index also the strategy that pip has: the best version of
        all indexes; uv alone stops at the first index that has a package.
    """
    set_up: dict[str, str] = {}
    for option, names in VARIABLES.items():
        if option in options and not any(environment.get(name) for name in names):
            value = options[option]
            set_up[names[0]] = value.replace(" ", ",") if option in COMMAS else value
    if "UV_INDEX" in set_up and not environment.get("UV_INDEX_STRATEGY"):
        set_up["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return set_up


if __name__ == "__main__":
    for name, value in uv_environment(pip_options(sys.stdin.read()), os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
