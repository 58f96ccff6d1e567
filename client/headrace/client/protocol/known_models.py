"""What is known of the models of a server: their descriptions, as it gave them last. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

from headrace.client.protocol.call_description import Names
from headrace.client.protocol.fitting import depends_on_ports, fit
from headrace.client.protocol.inputs import NormalInputs
from headrace.client.protocol.models import Model
from headrace.wire.errors import HeadraceError
from headrace.wire.lru import LruCache

MAX_MODELS = 256

ModelKey = tuple[str, str]
"""Name and version; the version "" stands for the newest one, whichever that is."""


class DescriptionNeeded(Exception):
    """Only a fresh description tells what to do with these inputs.

    `error` says what is wrong with them if the known description is still true; None if there is no description.
    """

    def __init__(self, names: Names, error: HeadraceError | None = None) -> None:
        super().__init__(names, error)
        self.names = names
        self.error = error


class Untold:
    """Stands for the description that the server did not give."""


class KnownModels:
    """Descriptions by name and version. `wanted` asks for one; it returns at once, and `put` comes later."""

    def __init__(self, wanted: Callable[[ModelKey], None] = lambda _: None) -> None:
        self._wanted = wanted
        self._models = LruCache[ModelKey, Model | Untold](MAX_MODELS)

    def put(self, key: ModelKey, model: Model | Untold) -> None:
        self._models.put(key, model)

    def forget(self, key: ModelKey) -> None:
        """The server has found a fault that this description did not show: it may be out of date."""
        self._models.pop(key)

    def fit(self, names: Names, inputs: NormalInputs, plain: Collection[str]) -> NormalInputs:
        """The inputs as the model takes them, or as they are where nothing is known that they depend on.

        Raises DescriptionNeeded if they depend on what is not known, or do not fit what is: a model may have been
        loaded again with other ports.
        """
        key = key_of(names)
        model = self._models.get(key)
        if isinstance(model, Model):
            try:
                return fit(model, names, inputs, plain)
            except HeadraceError as error:
                raise DescriptionNeeded(names, error) from None
        if model is None and depends_on_ports(inputs, plain):
            raise DescriptionNeeded(names)
        self._wanted(key)
        return inputs

    def __repr__(self) -> str:
        return f"<KnownModels: {self._models!r}>"


class AsGiven(KnownModels):
    """For inputs that were fitted before."""

    def fit(self, names: Names, inputs: NormalInputs, plain: Collection[str]) -> NormalInputs:
        """The inputs as they are."""
        return inputs


def key_of(names: Names) -> ModelKey:
    return names[0], names[1] or ""
