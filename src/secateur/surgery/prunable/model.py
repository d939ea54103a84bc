"""Whole models of prunable modules: made, masked by a plan, bared again, and shrunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from secateur.spec import Plan, PlanError
from secateur.spec.expr import Expr, axes_of
from secateur.structure import clone, clone_with, named_tensors
from secateur.surgery.masks import structured_masks
from secateur.surgery.prunable.modules import FORMS, Prunable, PrunableNorm
from secateur.surgery.select import removed_mask
from secateur.surgery.shrink import shrink

_PLAN = "_pruning_plan"
_NORM_SIZES = ("normalized_shape", "num_channels", "num_features")
_PLACES = ("indexed", "input", "spatial")
"""Pins of dimensions over which no product of weights reduces."""
_OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


def make_prunable(model: nn.Module) -> nn.Module:
    """A copy of the model, weights included, whose convolutions, linear layers, lookup tables, attentions and norms can
    carry masks.

    Only exact `torch.nn` types change (`FORMS`); a subclass keeps the forward that somebody wrote for it. The keys of
    the state_dict stay the same, and so does what the model computes, until `apply_plan`.
    """
    made = clone(model)
    for module in made.modules():
        if type(module) in FORMS:
            _turn_into(module, FORMS[type(module)])
    return made


def apply_plan(model: nn.Module, plan: Plan) -> tuple[str, ...]:
    """Mask what the plan cuts, in place of any masks before; weights stay as they are, and training holds the masks.

    The masked forward equals that of the shrunk model wherever only prunable modules reduce over what is cut: a mean or
    softmax over channels in the model's own code sees the zeros.
    Returns the parameters that the plan cuts and no module masks: those of the model's own that are added or
    multiplied, whose cut entries whatever reads them ignores.
    Raises PlanError, with the masks as they were, for a plan that was made for another model, or that cuts the rows or
    columns of a module without a prunable form.
    """
    masks = structured_masks(_plain(model), plan)
    names = {id(found.tensor): found.name for found in named_tensors(model)}
    found = {path: _masks_of(path, module, names, masks, plan) for path, module in _prunable(model)}
    for path in found:
        if found[path]:
            _demand_own_forward(model, path)
    bare = [name for name in _cut_parameters(plan) if not _carried(model, name)]
    for name in bare:
        _demand_harmless(model, name, plan)
    remove_masks(model)
    for path, module in _prunable(model):
        for name, mask in found[path].items():
            module.set_mask(name, mask)
    setattr(model, _PLAN, plan)
    return tuple(bare)


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Mask single weights, in place of any masks before; weights stay as they are, and training holds the masks.

    masks: name of a parameter -> boolean tensor of its shape, False where the module's forward sees a zero. Code of the
    model that reads the weight of a module past its forward sees the weight as it is.
    Returns the parameters that no prunable module carries: those of other types, and those that a fused kernel of torch
    may read past the masks. Raises PlanError, with the masks as they were, for masks that do not fit.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise PlanError(
                f"{name!r} has a mask of shape {tuple(mask.shape)}, which no parameter of this {type(model).__name__} "
                "of that name has; make the masks from this model"
            )
    remove_masks(model)
    bare: list[str] = []
    for name, mask in masks.items():
        holders = list(_holders(model, parameters[name]))
        if all(_carried(model, shared) and _runs_own_forward(model, shared) for shared in holders):
            _set_masks(model, holders, mask.to(parameters[name].device))
        else:
            bare.append(name)
    return tuple(bare)


def _holders(model: nn.Module, parameter: Tensor) -> Iterator[str]:
    """All names of a parameter; several where modules share it."""
    named = model.named_parameters(remove_duplicate=False)
    return (name for name, other in named if other is parameter)


def _set_masks(model: nn.Module, names: Iterable[str], mask: Tensor) -> None:
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        if isinstance(owner, Prunable):
            owner.set_mask(leaf, mask)


def remove_masks(model: nn.Module) -> None:
    """Take all masks off: the model computes again what it did before `apply_plan`."""
    for _, module in _prunable(model):
        module.remove_masks()
    vars(model).pop(_PLAN, None)


def shrunk(model: nn.Module) -> nn.Module:
    """The really smaller model that the masks stand for, of plain `torch.nn` modules; shares no memory with this one.

    Raises PlanError where no plan was applied.
    """
    plan = vars(model).get(_PLAN)
    if plan is None:
        raise PlanError(
            f"this {type(model).__name__} carries no masks; call apply_plan(model, plan) before shrunk(model)"
        )
    return shrink(_plain(model), plan)


def _turn_into(module: nn.Module, kind: type[nn.Module]) -> None:
    """The same object with another forward: attributes, hooks, mode and tensors stay."""
    module.__class__ = kind


def _prunable(model: nn.Module) -> Iterator[tuple[str, Prunable]]:
    for path, module in model.named_modules():
        if isinstance(module, Prunable):
            yield path, module


def _plain(model: nn.Module) -> nn.Module:
    """The model's objects without masks, around the same tensors."""
    copy = clone_with(model, lambda tensor: tensor)
    remove_masks(copy)
    for module in copy.modules():
        if isinstance(module, Prunable):
            _turn_into(module, module.plain)
    return copy


def _masks_of(
    path: str, module: Prunable, names: Mapping[int, str], masks: Mapping[str, Tensor], plan: Plan
) -> dict[str, Tensor]:
    """The masks that a module has to carry, by name."""
    if isinstance(module, PrunableNorm):
        shape, dims, device = _channels(path, module, names, plan)
        removed = removed_mask(shape, dims, plan, device).expand(shape)
        return {"channel": ~removed} if removed.any() else {}
    own = {name: masks.get(names[id(parameter)]) for name, parameter in module.named_parameters(recurse=False)}
    return {name: mask for name, mask in own.items() if mask is not None}


def _channels(
    path: str, module: PrunableNorm, names: Mapping[int, str], plan: Plan
) -> tuple[tuple[int, ...], tuple[Expr, ...], torch.device]:
    """Shape, axes and device of what a norm works on: from its tensors, else from its attributes."""
    for leaf in ("weight", "bias", "running_mean"):
        tensor = getattr(module, leaf, None)
        if tensor is not None:
            spec = plan.structure.tensors[names[id(tensor)]]
            return spec.shape, spec.dims, tensor.device
    size = next(getattr(module, name) for name in _NORM_SIZES if hasattr(module, name))
    shape = (size,) if isinstance(size, int) else tuple(size)
    dims: list[Expr] = list(shape)
    for attribute in plan.structure.attributes:
        if attribute.module == path and attribute.name in _NORM_SIZES:
            dims[attribute.index or 0] = _dimension(path, attribute.size, plan)
    return shape, tuple(dims), torch.device("cpu")


def _dimension(path: str, size: Expr, plan: Plan) -> Expr:
    """The dimension of which only the size is known: sizes do not say in which order their axes stand."""
    axes = sorted(axes_of(size))
    found = {expr for spec in plan.structure.tensors.values() for expr in spec.dims if sorted(axes_of(expr)) == axes}
    if isinstance(size, int | str) or not plan.kept.keys() & set(axes):
        return size
    if len(found) == 1:
        return found.pop()
    raise PlanError(
        f"{path}: this norm without parameters stands along several axes ({', '.join(axes)}), and nothing says "
        "in which order; give it parameters, or use secateur.shrink"
    )


def _cut_parameters(plan: Plan) -> list[str]:
    return [
        name
        for name, spec in plan.structure.tensors.items()
        if spec.kind == "parameter" and any(axis in plan.kept for expr in spec.dims for axis in axes_of(expr))
    ]


def _carried(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), Prunable)


def _demand_own_forward(model: nn.Module, path: str) -> None:
    """Raise PlanError where a fused kernel of torch may take the weights and leave the masks."""
    if not _runs_own_forward(model, path):
        raise PlanError(
            f"the plan cuts {path} inside a TransformerEncoderLayer, which may run fused and pass masks by; "
            "use secateur.shrink, or write the layer with modules of its own"
        )


def _runs_own_forward(model: nn.Module, path: str) -> bool:
    steps = path.split(".")
    outer = (model.get_submodule(".".join(steps[:end])) for end in range(len(steps)))
    return not any(isinstance(module, nn.TransformerEncoderLayer) for module in outer)


def _demand_harmless(model: nn.Module, name: str, plan: Plan) -> None:
    """Raise PlanError for a parameter that reduces over what is cut, in a module without a prunable form."""
    owner = model.get_submodule(name.rpartition(".")[0])
    if _reads_what_is_cut(name, plan) or isinstance(owner, _OTHER_NORMS):
        raise PlanError(
            f"the plan cuts {name!r} of a {type(owner).__name__}, which has no prunable form; those that have one: "
            f"{', '.join(sorted(kind.__name__ for kind in FORMS))}; leave it whole (ignore), or use secateur.shrink"
        )


def _reads_what_is_cut(name: str, plan: Plan) -> bool:
    """Whether a product may reduce over a cut dimension; where none was seen, rows beside columns tell."""
    dims = plan.structure.tensors[name].dims
    if name in plan.structure.reads:
        return any(axis in plan.kept for axis in axes_of(dims[plan.structure.reads[name]]))
    return sum(_is_a_side(expr, plan) for expr in dims) > 1


def _is_a_side(expr: Expr, plan: Plan) -> bool:
    """Whether the dimension holds rows or columns, not entries of a lookup table or positions."""
    pins = [plan.structure.axis[axis].pin for axis in axes_of(expr)]
    return any(pin is None or pin.code not in _PLACES for pin in pins)
