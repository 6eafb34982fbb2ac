"""botocore's session without AWS's surroundings: no variable, no file and no metadata service of AWS changes it.

Mechanism: each place where botocore reads its surroundings is a component of the session, and each is replaced here. So a
variable that a newer botocore learns to read has no effect either; there is no list of names to keep.
"""

from __future__ import annotations

import platform
from typing import Any

from aiobotocore.credentials import AioCredentialResolver
from aiobotocore.session import AioSession
from botocore.configprovider import (
    BOTOCORE_DEFAUT_SESSION_VARIABLES,
    DEFAULT_PROXIES_CONFIG_VARS,
    DEFAULT_S3_CONFIG_VARS,
    ConfigChainFactory,
    ConfigValueStore,
    ConstantProvider,
)
from botocore.handlers import add_recursion_detection_header
from botocore.loaders import Loader
from botocore.session import ComponentLocator
from botocore.tokens import TokenProviderChain
from botocore.useragent import UserAgentString

_NO_HOSTS = {
    "version": 3,
    "partitions": [
        {
            "partition": "aws",
            "regionRegex": ".*",
            "dnsSuffix": "amazonaws.com",
            "defaults": {"hostname": "{service}.{region}.{dnsSuffix}", "protocols": ["https"]},
            "services": {},
            "regions": {},
        }
    ],
}


class Descriptions(Loader):
    """botocore's own descriptions, without the host names of AWS: both endpoints are named here, and those are 7 MB.

    Without the default search path, which begins with ``~/.aws/models``.
    """

    def __init__(self) -> None:
        super().__init__(extra_search_paths=[self.BUILTIN_DATA_PATH], include_default_search_paths=False)

    def load_data_with_path(self, name: str) -> tuple[Any, str]:
        found: tuple[Any, str] = (_NO_HOSTS, name) if name == "endpoints" else super().load_data_with_path(name)
        return found


def _leave_out_the_nameless(parsed: dict[str, Any], **_: object) -> None:
    """Remove entries without a key from a listing: the library decodes each key, and fails if there is none."""
    if "Contents" in parsed:
        parsed["Contents"] = [entry for entry in parsed["Contents"] if entry.get("Key")]


class IsolatedSession(AioSession):
    """A session that takes only what code passes in, and botocore's defaults for the rest."""

    _components: ComponentLocator
    _internal_components: ComponentLocator
    full_config: dict[str, Any] = {"profiles": {}}  # noqa: RUF012 - a property of the parent, which reads the files

    def __init__(self) -> None:
        super().__init__()
        # It would add a header for AWS Lambda by the environment.
        self.unregister("before-call", add_recursion_detection_header)  # type: ignore[arg-type]

        emitter = self.get_component("event_emitter")
        emitter.register_first("after-call.s3.ListObjectsV2", _leave_out_the_nameless)

    def get_scoped_config(self) -> dict[str, Any]:
        """The section of a profile: none is ever read."""
        return {}

    def user_agent(self) -> str:
        return f"{self.user_agent_name}/{self.user_agent_version} {self.user_agent_extra}"

    def _register_config_store(self) -> None:
        chains = ConfigChainFactory(session=self, environ={})
        defaults = {name: _default(chains, name, of) for name, of in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()}
        for section, variables in (("s3", DEFAULT_S3_CONFIG_VARS), ("proxies_config", DEFAULT_PROXIES_CONFIG_VARS)):
            given = {name: _default(chains, name, of).provide() for name, of in variables.items()}
            defaults[section] = ConstantProvider({name: value for name, value in given.items() if value is not None})
        self._components.register_component("config_store", ConfigValueStore(mapping=defaults))

    def _register_data_loader(self) -> None:
        self._components.register_component("data_loader", Descriptions())

    def _register_monitor(self) -> None:
        self._internal_components.register_component("monitor", None)

    def _register_user_agent_creator(self) -> None:
        creator = UserAgentString(
            platform.system(), platform.release(), platform.machine(),
            platform.python_version(), platform.python_implementation(), "",
        )  # fmt: skip
        self._components.register_component("user_agent_creator", creator)

    def _create_credential_resolver(self) -> AioCredentialResolver:
        return AioCredentialResolver([])

    def _create_token_resolver(self) -> TokenProviderChain:
        return TokenProviderChain([])

    def _add_configured_endpoint_provider(self, client_name: str, config_store: ConfigValueStore) -> None: ...

    def _register_client_plugins(self, client: object) -> None: ...


def _default(chains: ConfigChainFactory, name: str, of: tuple[Any, Any, Any, Any]) -> Any:  # noqa: ANN401 - botocore's
    """A configuration chain of one variable: the value set in code, and the default."""
    _, _, default, conversion = of
    return chains.create_config_chain(instance_name=name, default=default, conversion_func=conversion)
