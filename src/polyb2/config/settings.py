"""The settings of a process: command line over environment over ``.env`` over default.

A wrong setting is one line, and all wrong ones are named at once, as the user wrote them: by option or by variable. Secrets
are ``SecretStr`` and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from polyb2.config import groups
from polyb2.core.errors import UsageError
from polyb2.core.scrub import hide
from polyb2.core.units import OneOf, Within
from polyb2.variables import notices, of_dotenv, of_environment


class Settings(BaseSettings):
    """All settings. Made of values by the names of their variables, in lower case; what is not given comes from outside."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    source: groups.SourceSettings = Field(default_factory=groups.SourceSettings)
    target: groups.TargetSettings = Field(default_factory=groups.TargetSettings)
    discovery: groups.DiscoverySettings = Field(default_factory=groups.DiscoverySettings)
    ledger: groups.LedgerSettings = Field(default_factory=groups.LedgerSettings)
    run: groups.RunSettings = Field(default_factory=groups.RunSettings)
    limits: groups.LimitSettings = Field(default_factory=groups.LimitSettings)
    page: groups.PageSettings = Field(default_factory=groups.PageSettings)
    notify: groups.NotifySettings = Field(default_factory=groups.NotifySettings)
    log: groups.LogSettings = Field(default_factory=groups.LogSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return tuple(_Layer(settings_cls, layer) for layer in (_by_lower_name(init_settings()), *_outside()))

    @model_validator(mode="after")
    def _keys_are_never_shown(self) -> Settings:
        secrets = (self.source.secret_access_key, self.target.application_key)
        hide(self.source.access_key_id, self.target.key_id, *(secret.get_secret_value() for secret in secrets))
        return self

    def require_remote(self, *, source: bool = True, target: bool = True) -> None:
        """Check that the keys a command needs are there.

        Raises:
            UsageError: naming every missing setting at once.
        """
        wanted = {"source": source, "target": target}
        missing = [
            entry.variable.name
            for entry in entries()
            if wanted.get(entry.group) and entry.variable.required and not entry.value(self)
        ]
        if missing:
            raise UsageError("\n".join(f"{name} is not set: put it into the environment or .env" for name in missing))


@dataclass(frozen=True, slots=True)
class Entry:
    """A setting and its place in the code."""

    variable: groups.Variable
    group: str
    field: str
    info: FieldInfo

    @property
    def range(self) -> str:
        """The values that may be written, in words; nothing where the meaning says all."""
        checks = [item.func for item in self.info.metadata if isinstance(item, BeforeValidator)]
        return next((check.words for check in checks if isinstance(check, Within | OneOf)), "")

    def value(self, settings: Settings) -> Any:  # noqa: ANN401 - of any setting
        return getattr(getattr(settings, self.group), self.field)


def entries() -> Iterator[Entry]:
    """Every setting, in the order of the reference."""
    for group, info in Settings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)  # noqa: S101 - a group
        assert issubclass(model, groups.Group)  # noqa: S101
        for field, item in model.model_fields.items():
            variable = next(found for found in item.metadata if isinstance(found, groups.Variable))
            yield Entry(variable, group, field, item)


class _Layer(PydanticBaseSettingsSource):
    """Values by the name of their variable, of one place."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the library's
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {}
        for entry in entries():
            if name := _name_given(entry.variable, self._values):
                found.setdefault(entry.group, {})[entry.field] = self._values[name]
        return found


def _by_lower_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name in lower case. A name that is written in upper case wins, in whatever order they come."""
    return {name.lower(): values[name] for name in sorted(values, key=str.isupper)}


def _outside() -> Iterator[dict[str, str]]:
    """The values of the environment and of ``.env``, by name in lower case; an empty one is as if it were not there."""
    may_be_empty = {entry.variable.name.lower() for entry in entries() if entry.variable.may_be_empty}
    for values in (of_environment(), of_dotenv().values):
        yield {name: value for name, value in _by_lower_name(values).items() if value or name in may_be_empty}


def _name_given(variable: groups.Variable, values: Mapping[str, Any]) -> str | None:
    """The name by which a place has the setting, in lower case."""
    return next((name for name in (variable.name.lower(), variable.alias.lower()) if name in values), None)


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; ``overrides`` are the command line's, where not None.

    Raises:
        UsageError: a line for each wrong setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError("\n".join(_lines(error, given))) from None


def setting_notices() -> list[str]:
    """Warnings about the variables of this process, whatever their values."""
    variables = [entry.variable for entry in entries()]
    names = [name.lower() for variable in variables for name in (variable.name, variable.alias) if name]
    return notices(names)


def _lines(error: ValidationError, overrides: Mapping[str, object]) -> Iterator[str]:
    """A line for each wrong setting, by the name that the user wrote."""
    places = [*_outside()]
    known = {(entry.group, entry.field): entry.variable for entry in entries()}
    for item in error.errors(include_url=False, include_input=False):
        group, field, *_ = item["loc"]
        variable = known[str(group), str(field)]
        name = next(filter(None, (_name_given(variable, place) for place in places)), variable.name).upper()
        if variable.name.lower() in overrides:
            name = variable.option or variable.name
        # Of the library's own checks, which come after ours, none is for a user to read.
        words = item["ctx"]["error"] if item["type"] == "value_error" else "is not a value of this setting"
        yield f"{name}: {words}"
