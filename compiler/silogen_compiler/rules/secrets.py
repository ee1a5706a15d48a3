"""Rule for general.py: secrets in a config, and what outputs hold in their place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.load import value_span

if TYPE_CHECKING:
    from silogen_compiler.values import Values

# Keys whose values no output holds, with the environment variable that the libraries read in their place.
SECRETS = {
    "run_conf.model_args.token": "HF_TOKEN",
    "training_args.hub_token": "HF_TOKEN",
}
WHOLE_REFERENCE = re.compile(r"\$\{env:\w+\}")

# User name and password of a URI, in any text. A password may hold slashes; a port is none.
CREDENTIALS = re.compile(
    r"://(?P<secret>[^/\s@:\[]*:(?!\d+(?:[/?#]|$))\S*?|[^/\s]*)@(?=[^/\s@]*(?:[/?#\s]|$))"
)

PROXIES = "run_conf.model_args.proxies"


def is_secret(text: str | None) -> bool:
    """Tell whether the value of a secret key is the secret itself, not a reference to the environment."""
    return text is not None and not WHOLE_REFERENCE.fullmatch(text)


def without_credentials(uri: str) -> str:
    """Return a URI, or a text with some in it, without user names and passwords."""
    return CREDENTIALS.sub("://", uri)


def proxies_without_credentials(values: Values) -> dict[str, str]:
    """Return the proxies as outputs may hold them."""
    return {scheme: without_credentials(str(uri)) for scheme, uri in (values[PROXIES] or {}).items()}


def server_without_credentials(values: Values) -> str:
    """Return the MLflow server as outputs may hold it.

    With credentials, where an environment variable tells it, that is a reference to the variable.
    """
    uri: str = values["tracking.mlflow_server_uri"]
    bare = without_credentials(uri)
    name = values.layer.variables.get(("tracking", "mlflow_server_uri"), "")
    return f"${{env:{name}}}" if bare != uri == values.environment.get(name) else bare


def no_secrets(values: Values) -> Findings:
    for key, variable in SECRETS.items():
        secret = values[key]
        if is_secret(secret):
            label = f"write ${{env:{variable}}}, and set that variable"
            message = f"`{key.rpartition('.')[2]}` holds a secret, which no output will contain"
            yield Diagnostic("SG313", message, values.span(key), label)
    for scheme, bare in proxies_without_credentials(values).items():
        if bare != values[PROXIES][scheme]:
            span = value_span(values.layer, (*PROXIES.split("."), scheme))
            message = f"the proxy for `{scheme}` holds credentials, which no output will contain"
            label = f"remove it, and set {scheme.upper()}_PROXY in the environment, which the libraries read"
            yield Diagnostic("SG313", message, span, label)
    uri = values["tracking"] and values["tracking.mlflow_server_uri"]
    if uri and without_credentials(uri) == server_without_credentials(values) != uri:
        label = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        message = "`mlflow_server_uri` holds credentials, which no output will contain"
        yield Diagnostic("SG313", message, values.span("tracking.mlflow_server_uri"), label)
