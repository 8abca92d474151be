"""pip's index settings as uv's, as `export` lines.

    pip config list | python -m workflow.scripts.uv_options

uv does not read pip's configuration. Whoever works behind a mirror has usually set up pip alone, so
`setup.sh` translates it. What is already set for uv, by its own variables, stays. Standard library
only: it runs before any package is installed.

Extra indexes are the exception. pip takes the best wheel of all indexes; uv takes a version from
the first index that has it, extra ones before the default, even where the default has a better
wheel. So they come after `index-url`. Without an `index-url` they are left out: the public index
has everything.
"""

import os
import shlex
import sys
from collections.abc import Mapping

from hpro_core.pretrained.pip_options import pip_options

VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "no-index": ("UV_NO_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "proxy": ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
}
"""pip's option -> the variable that uv reads, then others that uv takes for the same."""
COMMAS = {"find-links"}
"""Options whose values uv separates by commas; the others by spaces."""


def uv_environment(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for uv that say what pip's options say.

    Args:
        options: of `pip_options`.
        environment: the variables that are set; what they set is not returned.

    Returns:
        Variable -> value.
    """
    set_up: dict[str, str] = {}
    for option, names in VARIABLES.items():
        if option in options and not any(environment.get(name) for name in names):
            value = options[option]
            set_up[names[0]] = value.replace(" ", ",") if option in COMMAS else value
    own = environment.get("UV_INDEX") or environment.get("UV_EXTRA_INDEX_URL")
    if "UV_DEFAULT_INDEX" in set_up and "extra-index-url" in options and not own:
        set_up["UV_INDEX"] = f"{set_up['UV_DEFAULT_INDEX']} {options['extra-index-url']}"
        set_up["UV_INDEX_STRATEGY"] = environment.get("UV_INDEX_STRATEGY") or "unsafe-best-match"
    return set_up


if __name__ == "__main__":
    for name, value in uv_environment(pip_options(sys.stdin.read()), os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
