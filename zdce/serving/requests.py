"""Contents of requests and answers as pydantic models, which check them and give their schema."""

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from zdce.errors import InputError
from zdce.settings import EnhanceSettings, Option, options

# Names of the formats of results, and their suffixes; None is the picture's own format.
FORMATS = {"same": None, "jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}

_FORMAT = "Format of the result: same is the picture's own, or PNG where that is not written."

# Narrower than on a user's own machine, to bound the work of a request.
MOST_SCALE, MOST_STRENGTH = 64, 4
_NARROWER: dict[str, dict[str, Any]] = {
    "scale": {"most": MOST_SCALE},
    "strength": {"least": -MOST_STRENGTH, "most": MOST_STRENGTH},
}

# The settings that requests take: those with an effect on pictures.
SETTINGS: Mapping[str, Option] = {
    name: replace(option, **_NARROWER.get(name, {})) for name, option in options("pixels", "picture files", "files").items()
}


def _reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise InputError("a boolean is not a number")
    return value


def _field(name: str, option: Option) -> tuple[Any, Any]:
    """The type and pydantic's field of a setting."""
    kind: Any = option.kind
    if option.choices:
        kind = Literal[option.choices]
    elif option.kind is not bool:
        bounds: dict[str, Any] = {"ge": option.least, "le": option.most, "lt": option.below}
        if option.kind is float:
            bounds["allow_inf_nan"] = False
        given = {bound: value for bound, value in bounds.items() if value is not None}
        kind = Annotated[kind, Field(**given), BeforeValidator(_reject_bool)]
    text = f"{option.help} Default: {option.unset}." if option.unset else option.help
    return kind | None if option.unset else kind, Field(getattr(EnhanceSettings(), name), description=text)


class RequestBase(BaseModel):
    """The parameters of a request beside the settings."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of a network in /api/info. Default: the first.")
    format: str = "same"

    @property
    def settings(self) -> EnhanceSettings:
        """The settings of the request."""
        values: Any = {name: getattr(self, name) for name in SETTINGS}
        return EnhanceSettings(**values)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RequestBase":
        """From JSON values; null stands for the default.

        Raises:
            InputError: a parameter is unknown, or its value is not allowed.
        """
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise InputError(explained(error.errors())) from None


if TYPE_CHECKING:
    EnhanceRequest = RequestBase
else:
    EnhanceRequest = create_model(
        "EnhanceRequest",
        __base__=RequestBase,
        __doc__="Parameters of enhancing a picture.",
        format=(Literal[tuple(FORMATS)], Field("same", description=_FORMAT)),
        **{name: _field(name, option) for name, option in SETTINGS.items()},
    )


class Upload(EnhanceRequest):
    """A picture with parameters, in JSON."""

    image: str = Field(description="The picture's file in base64.")


def explained(errors: Any) -> str:
    """The first of pydantic's ``errors`` as a sentence that names the parameter, what was expected and what was given."""
    first = errors[0]
    name, got = str(first["loc"][-1]), reprlib.repr(first["input"])
    if first["type"] == "extra_forbidden":
        return f"expected the parameters {', '.join(EnhanceRequest.model_fields)}, got {reprlib.repr(name)}"
    if name in SETTINGS:
        return f"{name} must be {SETTINGS[name].expected}, got {got}"
    expected = {"model": "a name", "format": f"one of {', '.join(FORMATS)}"}
    return f"{name} must be {expected[name]}, got {got}" if name in expected else f"{name}: {first['msg']}, got {got}"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Answer):
    """The reason why a request was refused."""

    error: str


class KeptPreview(_Answer):
    """A picture whose preview is kept."""

    id: str = Field(description="Secret name of the picture in other requests.")
    width: int = Field(description="Width of the whole picture in pixels.")
    height: int
    format: str = Field(description="Format of the picture's file, one of /api/info; png if that can't be written.")


class EnhancedPicture(_Answer):
    """A result in JSON."""

    media_type: str
    width: int
    height: int
    milliseconds: dict[str, float] = Field(description="Milliseconds of each part of the work.")
    notes: list[str] = Field(description="Lines about what the result lacks of the picture's file, or what differs.")
    image: str = Field(description="The file of the result in base64.")


class OfferedNetwork(_Answer):
    """A network of this server."""

    name: str
    variant: str
    summary: str
    parameters: int
    scales: list[int] = Field(description="Useful scales, the most exact one first.")


class OfferedSetting(_Answer):
    """A setting that requests take."""

    name: str
    help: str
    kind: str = Field(description="int, float, str or bool.")
    least: float | None
    most: float | None
    below: float | None
    choices: list[str]
    unit: str
    unset: str
    default: bool | int | float | str | None

    @classmethod
    def all(cls) -> "list[OfferedSetting]":
        """Each setting, in the order of ``EnhanceSettings``."""
        return [
            cls(
                name=name, help=option.help, kind=option.kind.__name__, least=option.least, most=option.most,
                below=option.below, choices=list(option.choices), unit=option.unit, unset=option.unset,
                default=getattr(EnhanceSettings(), name),
            )
            for name, option in SETTINGS.items()
        ]  # fmt: skip


class OfferedLimits(_Answer):
    """Limits of this server."""

    bytes: int = Field(description="Largest upload, in bytes.")
    pixels: int = Field(description="Largest picture, in pixels.")
    pictures: int = Field(description="Most previews kept at once, of all visitors.")
    idle: float = Field(description="Seconds after which an unused preview is deleted.")


class Info(_Answer):
    """Networks, settings, formats and limits of this server."""

    version: str
    models: list[OfferedNetwork]
    settings: list[OfferedSetting]
    formats: list[str]
    limits: OfferedLimits
