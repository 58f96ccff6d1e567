"""The models that are served, by name and version, and retired ones until the last ticket has let go of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import nsmallest

from headrace.server.core.calls import Plan, bind
from headrace.server.core.counts import ModelCounts
from headrace.server.core.defined_calls import DefinedCall
from headrace.server.core.limits import Limits
from headrace.server.core.model_queue import ModelQueue
from headrace.server.core.specs import ModelSpec
from headrace.server.core.state import Ticket
from headrace.wire.errors import MAX_LISTED, HeadraceError, NotFound, Unavailable, listed, quote

_NO_BOUNDS = Limits()


class Models:
    """`generation` changes with every change, so that calls bound to a model before are bound anew."""

    def __init__(self, limits: Limits = _NO_BOUNDS) -> None:
        """Queues have the bounds of `limits`, unless a model has its own."""
        self._limits = limits
        self._models: dict[str, dict[str, ModelQueue[Ticket]]] = {}
        self._withheld: dict[str, dict[str, str]] = {}
        """Why known versions cannot be used, by name and version; the version "" stands for the newest one."""
        self.retired: dict[ModelQueue[Ticket], None] = {}
        """Models that no new ticket gets, while tickets in flight still need them."""
        self.unneeded: list[ModelSpec] = []
        """Models that no ticket needs any more, until `Core.decide` returns them."""
        self.doubted: list[ModelSpec] = []
        """Variants that were removed for a wrong failure, until somebody tells the operator."""
        self.generation = 0
        self.no_model = ModelCounts()
        """Of requests that name no model which is served."""

    def add(self, spec: ModelSpec) -> None:
        """Serve a model from now on, replacing one of the same name and version."""
        versions = self._models.setdefault(spec.name, {})
        old = versions.get(spec.version)
        withheld = self._withheld.get(spec.name, {})
        for each in ("", spec.version):
            withheld.pop(each, None)
        versions[spec.version] = ModelQueue(spec, counts=self._counts_before(spec), limits=self._limits)
        self.generation += 1
        if old is not None:
            self._retire(old)

    def remove(self, name: str, version: str, why: str) -> None:
        """Retire a version. `why` completes the error of later tickets: "model 'x' version 1 <why>"."""
        versions = self._models[name]
        old = versions.pop(version)
        self.withhold(name, why, version)
        if not versions:
            del self._models[name]
            self.withhold(name, why)
        self.generation += 1
        self._retire(old)

    def withhold(self, name: str, why: str, version: str = "") -> None:
        """Set why a version of a known name cannot be used, or why it has no version, until one is added."""
        self._withheld.setdefault(name, {})[version] = why

    def forget(self, name: str) -> None:
        """Forget why versions of a name cannot be used. One that is not served is then unknown."""
        self._withheld.pop(name, None)

    def serving(self, spec: ModelSpec) -> ModelQueue[Ticket] | None:
        """The model that was added with this very spec, while it is served."""
        model = self._models.get(spec.name, {}).get(spec.version)
        return model if model is not None and model.spec is spec else None

    def add_variant(self, model: ModelQueue[Ticket], spec: ModelSpec) -> None:
        """Bind the calls to a variant from now on that need nothing else of a model that is served."""
        variant = ModelQueue[Ticket](spec, model, limits=self._limits)
        model.variants = sorted((*model.variants, variant), key=lambda each: len(each.spec.outputs))
        self.generation += 1

    def remove_variant(self, model: ModelQueue[Ticket], variant: ModelQueue[Ticket]) -> None:
        """Bind calls to the model itself again. Tickets of the variant finish with it."""
        model.variants = [each for each in model.variants if each is not variant]
        self.generation += 1
        self._retire(variant)

    def doubt(self, variant: ModelQueue[Ticket]) -> None:
        """An inference has failed in a variant, and not in its model: let nobody use such a variant again."""
        model = variant.full
        assert model is not None
        if model.demand is not None:
            model.demand.answered(variant.spec.pruned_to, refused=True)
        if variant in model.variants:
            self.doubted.append(variant.spec)
            self.remove_variant(model, variant)

    def _retire(self, model: ModelQueue[Ticket]) -> None:
        variants, model.variants = model.variants, ()
        for variant in variants:
            self._retire(variant)
        self.retired[model] = None
        model.holders -= 1
        if not model.holders:
            self.let_go(model)

    def let_go(self, model: ModelQueue[Ticket]) -> None:
        """The last ticket has let go of a retired model."""
        del self.retired[model]
        self.unneeded.append(model.spec)

    def find(self, name: str, version: str = "") -> ModelQueue[Ticket]:
        """A model by name and version, the newest one by default.

        Raises NotFound, and Unavailable for a known version that cannot be used at the moment.
        """
        versions = self._models.get(name, {})
        model = versions.get(version)
        if model is not None:
            return model
        if versions and not version:
            return versions[max(versions, key=_age)]
        withheld = self._withheld.get(name, {})
        if version in withheld:
            raise Unavailable(f"model {quote(name)}{f' version {version}' if version else ''} {withheld[version]}")
        if [*withheld] == [""]:  # which versions there are is not known
            raise Unavailable(f"model {quote(name)} {withheld['']}")
        if versions:
            known = listed(sorted(versions, key=_age, reverse=True), len(versions))
            raise NotFound(f"model {quote(name)} has no version {quote(version)}; the newest are {known}")
        if withheld:
            raise NotFound(f"model {quote(name)} has no version {quote(version)}")
        raise NotFound(no_model(name, self._models))

    def counts_of(self, name: str, version: str) -> ModelCounts:
        """Where a request counts that names a model, maybe without a version."""
        versions = self._models.get(name, {})
        model = versions.get(version)
        if model is None and versions and not version:
            model = versions[max(versions, key=_age)]
        return self.no_model if model is None else model.counts

    def _counts_before(self, spec: ModelSpec) -> ModelCounts | None:
        """Those of a model of this name and version, as long as it has tickets: what is counted must not go back."""
        for model in (*self._models.get(spec.name, {}).values(), *self.retired):
            if (model.spec.name, model.spec.version) == (spec.name, spec.version):
                return model.counts
        return None

    def bind(self, defined: DefinedCall) -> tuple[ModelQueue[Ticket], Plan]:
        """The model of a call or a variant of it, and its plan. They are remembered, as is an error of the call itself.

        Raises the errors of `find`, and InvalidArgument or NotFound, naming what is wrong with the call.
        """
        if defined.generation != self.generation:
            defined.bound = defined.error = None
            model = self.find(defined.call.model, defined.call.version)
            try:
                plan = bind(defined.call, model.spec)
                defined.bound = model.variant_for(plan), plan
            except HeadraceError as error:
                defined.error = error
            defined.generation = self.generation
        if defined.error is not None:
            raise type(defined.error)(defined.error.message)
        assert defined.bound is not None
        return defined.bound

    def with_slots(self) -> Iterator[ModelQueue[Ticket]]:
        """Every model, also retired ones, and their variants."""
        for model in self:
            yield model
            yield from model.variants
        yield from self.retired

    def longest_wait(self) -> float:
        """Seconds that a ticket of any model may wait for a slot; 0 if there is a model for which it may for ever."""
        bounds = [0.0 if each.bounds is None else each.bounds.seconds for each in self]
        return max(bounds) if bounds and min(bounds) > 0.0 else 0.0

    def __iter__(self) -> Iterator[ModelQueue[Ticket]]:
        """By name, then version."""
        for _, versions in sorted(self._models.items()):
            yield from (versions[version] for version in sorted(versions, key=_age))

    def __len__(self) -> int:
        return sum(map(len, self._models.values()))

    def __repr__(self) -> str:
        return f"<Models {list(self)}, {len(self.retired)} retired>"


def no_model(name: str, known: Collection[str]) -> str:
    """What to say of an unknown name: the names of models are no secret, since `ListModels` lists them."""
    there = listed(nsmallest(MAX_LISTED, known), len(known))
    return f"there is no model {quote(name)}; there are {there}" if there else f"there is no model {quote(name)}"


def _age(version: str) -> tuple[int, str]:
    """The sort key of a version: numbers in order, anything else before them."""
    return (int(version), version) if version.isdecimal() else (-1, version)
