"""Run the user's own forward once and record the operators below the Python level.

The forward runs on a copy of the model whose tensors are on the meta device, so that it costs no memory and no
arithmetic; a model that looks at values is run on real tensors instead. The user's model is not touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import multi_head_attention_forward, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.hooks import RemovableHandle

from secateur.spec import TraceError
from secateur.structure.attributes import own_holders, remember_origins
from secateur.structure.caches import forget_cached
from secateur.structure.clone import clone_with, meta_like, named_tensors
from secateur.structure.program import BlockCall, Call, Op, Program, Ref
from secateur.structure.quick import quickly
from secateur.structure.rows import watch_lists
from secateur.structure.sizeint import Ledger, Origin, SizeFloat, SizeInt, is_machinery, recording, shape_of, where
from secateur.structure.sizes import SCALED, SUMMED, WATCHED

Inputs = tuple[Any, ...] | dict[str, Any]
Change = Callable[[nn.Module], object]

_COUNTS = (torch.Tensor.numel, torch.Tensor.nelement, torch.numel)
_SHAPE_GETTER = torch.Tensor.shape.__get__  # pyright: ignore[reportAttributeAccessIssue]


def normalise_inputs(example_inputs: Any) -> Inputs:
    """Positional inputs as a tuple, keyword inputs as a dict; a lone tensor is one positional input."""
    if isinstance(example_inputs, dict):
        return example_inputs
    return example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)


def inputs_on(inputs: Inputs, device: torch.device | str) -> Inputs:
    """The same inputs, their tensors on this device."""
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, inputs)


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """The model's output for normalised inputs."""
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def call_modules(model: nn.Module, inputs: Inputs, *, but: Collection[str] = ()) -> list[torch.Tensor]:
    """What every module in the model puts out, one after the other, during one forward.

    but: paths of modules that are left out, with all that is in them.
    """
    made: list[torch.Tensor] = []
    left_out = tuple(f"{path}." for path in but)
    with attached(
        module.register_forward_hook(lambda _, __, output: made.extend(tensors_in(output)))
        for path, module in model.named_modules()
        if not f"{path}.".startswith(left_out)
    ):
        call_model(model, inputs)
    return made


@contextmanager
def attached(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Take the hooks of these handles off again at the end."""
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


def capture(model: nn.Module, inputs: Inputs, *, train: bool = False) -> Program:
    """The program of one forward, in eval or in train mode; raises TraceError when the forward itself fails."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TraceError(
            f"{type(model).__name__} holds TorchScript modules, whose forward cannot be followed; give the Python "
            "model that was scripted, and script the smaller one"
        )
    try:
        return _capture_on(model, inputs, torch.device("meta"), train=train)
    except TraceError:
        raise
    except Exception:  # a model may raise anything when its tensors hold no values
        return capture_with_values(model, inputs, train=train)
    finally:
        forget_cached(model)


def capture_with_values(model: nn.Module, inputs: Inputs, *, train: bool = False) -> Program:
    """The program of one forward on real tensors; raises TraceError when the forward itself fails."""
    return _demand_capture(model, inputs, _device_of(model), train=train)


def capture_changed(model: nn.Module, inputs: Inputs, device: torch.device, change: Change) -> Program:
    """The eval-mode program on this device of a copy of the model after this change; raises TraceError when its forward
    fails."""
    return _demand_capture(model, inputs, device, train=False, change=change)


def _demand_capture(
    model: nn.Module, inputs: Inputs, device: torch.device, *, train: bool, change: Change | None = None
) -> Program:
    forget_cached(model)
    try:
        return _capture_on(model, inputs, device, train=train, change=change)
    except TraceError:
        raise
    except Exception as error:
        raise _forward_failed(model, error) from error
    finally:
        forget_cached(model)


def demand_forward(model: nn.Module, inputs: Inputs) -> None:
    """Raise TraceError when the model's own forward fails on these inputs."""
    try:
        with torch.no_grad():
            call_model(private_copy(model).eval(), inputs)
    except Exception as error:
        raise _forward_failed(model, error) from error


def _device_of(model: nn.Module) -> torch.device:
    first = next((found.tensor for found in named_tensors(model)), None)
    return first.device if first is not None else torch.device("cpu")


def _forward_failed(model: nn.Module, error: Exception) -> TraceError:
    place = ""
    trace = error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not is_machinery(name):
            place = f" at {name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return TraceError(
        f"the forward of {type(model).__name__} failed on the example inputs{place}: "
        f"{type(error).__name__}: {error}; call model(example_inputs) yourself to see it fail, then fix the inputs"
    )


def _capture_on(
    model: nn.Module, inputs: Inputs, device: torch.device, *, train: bool, change: Change | None = None
) -> Program:
    on_meta = device.type == "meta"
    twins: dict[int, torch.Tensor] = {}

    def substitute(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in twins:
            twins[id(tensor)] = meta_like(tensor) if on_meta else _private(tensor)
        return twins[id(tensor)]

    copy = clone_with(model, substitute).train(train)
    if change is not None:
        change(copy)
    given = tree_map(lambda leaf: _input_like(leaf, device) if isinstance(leaf, torch.Tensor) else leaf, inputs)
    recorder = _Recorder(device)
    for twin in named_tensors(copy):
        recorder.program.named[recorder.number(twin.tensor)] = twin.name
    recorder.program.inputs = [
        recorder.number(leaf) for leaf in tree_flatten(given)[0] if isinstance(leaf, torch.Tensor)
    ]
    recorder.made.update(recorder.program.named, recorder.program.inputs)
    holders = list(own_holders(copy, model))
    remember_origins(holders)
    recorder.program.lists = list(watch_lists(copy, holders, recorder.program.ops))
    output = _run(copy, given, recorder, device)
    recorder.program.outputs = [recorder.number(leaf) for leaf in tensors_in(output)]
    return recorder.program


def _private(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def _input_like(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return meta_like(tensor) if device.type == "meta" else tensor.detach().to(device)


def tensors_in(output: Any) -> Iterator[torch.Tensor]:
    """Every tensor in an output: in containers that torch knows, and in the attributes of other objects."""
    for leaf in tree_flatten(output)[0]:
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif hasattr(leaf, "__dict__"):
            for value in vars(leaf).values():
                if isinstance(value, torch.Tensor | list | tuple | dict):
                    yield from tensors_in(value)


def first_tensor(values: Any) -> torch.Tensor | None:
    """The first tensor among arguments or outputs."""
    if isinstance(values, torch.Tensor):
        return values
    if type(values) not in (tuple, list, dict):
        return next((leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)), None)
    inside = (first_tensor(value) for value in (values.values() if isinstance(values, dict) else values))
    return next((found for found in inside if found is not None), None)


def _run(model: nn.Module, inputs: Inputs, recorder: _Recorder, device: torch.device) -> Any:
    with ExitStack() as stack:
        stack.enter_context(_quiet_randomness(device))
        stack.enter_context(as_captured(model))
        stack.enter_context(torch.device(device))
        stack.enter_context(recording(recorder.ledger))
        stack.enter_context(module_paths(model, recorder.stack))
        stack.enter_context(_block_calls(model, recorder))
        stack.enter_context(_Calls(recorder))
        stack.enter_context(recorder)
        output = call_model(model, inputs)
    recorder.program.equalities = recorder.ledger.equalities
    recorder.program.differences = recorder.ledger.differences
    recorder.program.number_uses = recorder.ledger.number_uses
    return output


@contextmanager
def as_captured(model: nn.Module) -> Iterator[None]:
    """The conditions of a capture: no gradients, and no fused paths that would hide operators."""
    with torch.no_grad(), unfused_attention(), sdpa_kernel(SDPBackend.MATH), _unfused_recurrence(model):
        yield


@contextmanager
def unfused_attention() -> Iterator[None]:
    """`nn.MultiheadAttention` and encoder layers without their fused operators."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _unfused_recurrence(model: nn.Module) -> Iterator[None]:
    """Recurrent layers step by step, as on the meta device, where a library would run them as one operator."""
    if not any(isinstance(module, nn.RNNBase) for module in model.modules()):
        yield
        return
    onednn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # the public context manager warns about a flag that is not touched here
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)


def private_copy(model: nn.Module) -> nn.Module:
    """A copy that shares the weights; buffers are its own, because a forward may write to them."""
    return clone_with(model, _private)


@contextmanager
def _quiet_randomness(device: torch.device) -> Iterator[None]:
    """Give the random state back as it was."""
    state = random.getstate()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
    random.setstate(state)


def module_paths(model: nn.Module, stack: list[str]) -> AbstractContextManager[None]:
    """Keep the path of the module whose forward runs on top of the stack."""
    handles: list[RemovableHandle] = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda *_, path=path: stack.append(path)))
        handles.append(module.register_forward_hook(lambda *_: _pop(stack), always_call=True))
    return attached(handles)


def _pop(stack: list[str]) -> None:
    stack.pop()


def _block_calls(model: nn.Module, recorder: _Recorder) -> AbstractContextManager[None]:
    """Note the runs of blocks."""
    return attached(handle for path in _in_lists(model) for handle in recorder.watch(path, model.get_submodule(path)))


def _in_lists(model: nn.Module) -> Iterator[str]:
    """Paths of the children of each `Sequential` and `ModuleList`."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Sequential | nn.ModuleList):
            yield from (f"{path}.{name}" if path else name for name, _ in module.named_children())


class _Recorder(TorchDispatchMode):
    """Writes each operator into the program."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.program = Program(device=device)
        self.on_meta = device.type == "meta"
        self.stack: list[str] = [""]
        self.call: Call | None = None
        self.ledger = Ledger()
        self.made: set[int] = set()
        """Tensors that are named, given, or were made by a recorded operator; any other is a constant of the code."""
        self._numbers: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []

    def number(self, tensor: torch.Tensor) -> int:
        """The tensor's number in the program; a new one for a tensor not met before."""
        found = self._numbers.get(id(tensor))
        if found is None:
            found = self._numbers[id(tensor)] = len(self._alive)
            self._alive.append(tensor)
            self.program.shapes.append(tuple(torch.Size(tensor.shape)))
            self.program.dtypes.append(tensor.dtype)
        return found

    def encode(self, value: Any) -> Any:
        """The value with `Ref` in place of tensors."""
        if isinstance(value, torch.Tensor):
            return Ref(self.number(value))
        if isinstance(value, list | tuple):
            encoded = [self.encode(item) for item in value]
            return encoded if isinstance(value, list) else tuple(encoded)
        return value

    def watch(self, path: str, module: nn.Module) -> list[Any]:
        """Note each run of the module from now on; returns the handles of its hooks."""
        starts: list[int] = []

        def enter(*_: Any) -> None:
            starts.append(len(self.program.ops))

        def leave(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            start, stop = starts.pop(), len(self.program.ops)
            given, made = first_tensor((args, kwargs)), first_tensor(output)
            if given is not None and made is not None:
                given_made = self.number(given), self.number(made)
                self.program.blocks.append(BlockCall(path, *given_made, start, stop, caller=self.stack[-1]))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, with_kwargs=True)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = self.encode(tuple(args))
        keywords = {name: self.encode(value) for name, value in (kwargs or {}).items()}
        op = Op(func, arguments, keywords, [], self.stack[-1], self.call)
        for number in op.reads:
            if number not in self.made:
                self.made.add(number)
                self.program.constants[number] = self._alive[number]
        output = quickly(func, args, kwargs or {}) if self.on_meta else None
        if output is None:
            output = func(*args, **(kwargs or {}))
        results = output if isinstance(output, list | tuple) else (output,)
        if torch.Tag.inplace_view in func.tags:
            self._numbers.pop(id(args[0]), None)  # the tensor goes on with other dimensions: another one to us
        op.outputs = [self.number(item) if isinstance(item, torch.Tensor) else -1 for item in results]
        self.made.update(op.outputs)
        self.program.ops.append(op)
        if self.call is not None:
            self.call.ops.append(op)
        return output


def _is_watched(func: Any, args: Any) -> bool:
    if func in SCALED:
        return any(isinstance(value, SizeFloat | SizeInt) for value in args)
    return func in WATCHED or func in (scaled_dot_product_attention, multi_head_attention_forward)


class _Calls(TorchFunctionMode):
    """Notes the torch functions whose arguments are sizes, and hands out shapes that remember their tensor."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        if func == _SHAPE_GETTER or func is torch.Tensor.size:
            return self._shape(func, args, keywords)
        if func in _COUNTS:
            return self._count(func, args, keywords)
        if func is torch.tensor or func is torch.as_tensor:
            self._note_numbers(args)
        elif func in SUMMED:
            self._note_numbers([list(args)])
        if self.recorder.call is not None or not _is_watched(func, args):
            return func(*args, **keywords)
        recorder = self.recorder
        known = recorder.ledger.recall
        encoded = {name: recorder.encode(known(value)) for name, value in keywords.items()}
        call = Call(func, recorder.encode(known(tuple(args))), encoded, recorder.stack[-1], where())
        recorder.call = call
        try:
            output = func(*args, **keywords)
        finally:
            recorder.call = None
        call.result = recorder.encode(output)
        recorder.program.calls.append(call)
        return output

    def _count(self, func: Any, args: Any, keywords: Any) -> SizeInt:
        number, count = self.recorder.number(args[0]), func(*args, **keywords)
        origin: Origin = ("constant", 1)
        for dim in range(args[0].dim()):
            origin = ("*", origin, ("dim", number, dim))
        return SizeInt(count, origin)

    def _note_numbers(self, args: Any) -> None:
        """A size that becomes a value of a tensor is a number that the code computes with."""
        values = args[0] if isinstance(args[0], list | tuple) else args[:1]
        for value in values:
            if isinstance(value, SizeInt | SizeFloat):
                self.recorder.ledger.number_uses.append((value.origin, where()))

    def _shape(self, func: Any, args: Any, keywords: Any) -> Any:
        plain = func(*args, **keywords)
        number = self.recorder.number(args[0])
        if isinstance(plain, torch.Size):
            return shape_of(plain, number)
        dim = args[1] if len(args) > 1 else keywords["dim"]
        return SizeInt(plain, ("dim", number, dim % args[0].dim()))
