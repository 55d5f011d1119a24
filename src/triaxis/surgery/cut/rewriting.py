"""Replace numbers in a model's own code: one call's lengths or scale, in a copy of the method, for one module.

The source line of the call is found from its bytecode, the call is changed in the syntax tree, and the method compiled anew
with its globals and closure as they were. The module's class becomes a subclass that holds the new methods; nothing outside
this module changes. Where the source is not there, nothing is replaced, and the proof then finds the fault.
"""

from __future__ import annotations

import ast
import copy
import functools
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from triaxis.surgery.trace.sites import ATTENTION, Frame

SELF = "the_module"


@dataclass(frozen=True)
class Edit:
    """One call: the frames that lead to it, and the lengths by dimension or the scale that it gets."""

    frames: tuple[Frame, ...]
    lengths: Mapping[int, int]
    number: float | None


class Rewritten(nn.Module):
    """What a module with replaced numbers inherits from beside its own class."""

    kept_edits: tuple[Edit, ...]
    kept_helpers: tuple[Callable[..., Any], ...]

    def kept_shape(self, number: int, *asked: Any) -> tuple[Any, ...]:
        """Return the shape that a call asked for with the lengths that are left."""
        given = tuple(asked[0]) if len(asked) == 1 and isinstance(asked[0], tuple | list) else asked
        lengths = self.kept_edits[number].lengths
        return tuple(lengths.get(d, n) if not (isinstance(n, int) and n == -1) else n for d, n in enumerate(given))

    def kept_scale(self, number: int) -> float:
        """Return the scale that a call had in the base model."""
        return float(self.kept_edits[number].number or 0.0)

    def kept_helper(self, number: int) -> Callable[..., Any]:
        """Return a rewritten function that is told of this module."""
        return functools.partial(self.kept_helpers[number], self)


def rewrite(module: nn.Module, edits: Sequence[Edit]) -> None:
    """Give a module methods in which the calls of these edits have their numbers replaced."""
    helpers: list[Callable[..., Any]] = []
    methods: dict[str, Callable[..., Any]] = {}
    tree: dict[Any, Any] = {}
    for number, edit in enumerate(edits):
        node = tree
        for code, at in edit.frames[:-1]:
            node = node.setdefault(code, {}).setdefault(at, {})
        node.setdefault(edit.frames[-1][0], {})[edit.frames[-1][1]] = number
    for code, changes in tree.items():
        method: Any = getattr(type(module), code.co_name, None)
        if (
            getattr(method, "__code__", None) is code
            and (changed := _changed(method, changes, edits, helpers, code.co_varnames[0])) is not None
        ):
            methods[code.co_name] = changed
    if methods:
        cls = type(module)
        module.__class__ = type(cls.__name__, (Rewritten, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__, **methods})
        vars(module).update(kept_edits=tuple(edits), kept_helpers=tuple(helpers))


def _changed(
    function: Callable[..., Any], changes: Mapping[int, Any], edits: Sequence[Edit], helpers: list[Callable[..., Any]], owner: str
) -> Callable[..., Any] | None:
    """Return a copy of a function with some of its calls changed; `owner` names the variable that holds the module."""
    code: CodeType = function.__code__
    tree = _parsed(code.co_filename)
    definition = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == code.co_name and _starts(n, code)), None)
    if definition is None:
        return None
    spots = list(code.co_positions())
    wanted: dict[tuple[Any, ...], Any] = {}
    for at, change in changes.items():
        line, end_line, column, end_column = spots[at // 2]
        wanted[line, column, end_line, end_column] = change
    new = _Calls(wanted, edits, helpers, owner, function.__globals__).visit(copy.deepcopy(definition))
    if owner == SELF:
        new.args.posonlyargs.insert(0, ast.arg(SELF))
    return _compiled(function, new)


class _Calls(ast.NodeTransformer):
    """Change the calls and products at known positions."""

    def __init__(self, wanted: Any, edits: Sequence[Edit], helpers: list[Any], owner: str, names: Mapping[str, Any]) -> None:
        self.wanted, self.edits, self.helpers, self.owner, self.names = wanted, edits, helpers, owner, names

    def _change(self, node: ast.expr) -> Any:
        return self.wanted.get((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset))

    def _asks(self, method: str, number: int, *arguments: ast.expr) -> ast.Call:
        function = ast.Attribute(ast.Name(self.owner, ast.Load()), method, ast.Load())
        return ast.Call(function, [ast.Constant(number), *arguments], [])

    def visit_Call(self, node: ast.Call) -> Any:
        change = self._change(node)
        self.generic_visit(node)
        if isinstance(change, dict):
            self._helper(node, change)
        elif change is not None and self.edits[change].number is None:
            keep = 1 if isinstance(node.func, ast.Attribute) and _is_torch(node.func.value, self.names) else 0
            shape = [*node.args[keep:], *(k.value for k in node.keywords)]
            node.args, node.keywords = [*node.args[:keep], self._asks("kept_shape", change, *shape)], []
        elif change is not None:
            self._scale(node, change)
        return node

    def _scale(self, node: ast.Call, change: int) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        scale = self._asks("kept_scale", change)
        if name == ATTENTION:
            node.keywords = [*(k for k in node.keywords if k.arg != "scale"), ast.keyword("scale", scale)]
        elif node.args:
            node.args[-1] = scale

    def _helper(self, node: ast.Call, change: dict[Any, Any]) -> None:
        """Call a changed copy of a function that the module's method calls."""
        function = self.names.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            function = getattr(self.names.get(node.func.value.id), node.func.attr, None)
        code, changes = next(iter(change.items()))
        if getattr(function, "__code__", None) is not code:
            return
        changed = _changed(function, changes, self.edits, self.helpers, SELF)  # type: ignore[arg-type]
        if changed is not None:
            self.helpers.append(changed)
            node.func = self._asks("kept_helper", len(self.helpers) - 1)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        change = self._change(node)
        self.generic_visit(node)
        if isinstance(change, int):
            scale = self._asks("kept_scale", change)
            side = "left" if isinstance(node.left, ast.Constant) else "right"
            setattr(node, side, scale)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        change = self.wanted.get((node.lineno, node.col_offset, node.end_lineno, node.end_col_offset))
        self.generic_visit(node)
        if isinstance(change, int):
            node.value = self._asks("kept_scale", change)
        return node


def _is_torch(node: ast.expr, names: Mapping[str, Any]) -> bool:
    """Say whether an expression is a module (``torch.reshape(x, shape)``) and not a tensor (``x.reshape(shape)``)."""
    return isinstance(node, ast.Name) and hasattr(names.get(node.id), "__spec__")


@functools.lru_cache(maxsize=64)
def _parsed(filename: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return ast.Module([], [])


def _starts(node: ast.FunctionDef, code: CodeType) -> bool:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return first == code.co_firstlineno


def _compiled(function: Callable[..., Any], definition: Any) -> Callable[..., Any] | None:
    """Compile a changed definition with the globals, defaults and closure of the function that it was."""
    code: CodeType = function.__code__
    defaults, keyword_defaults = function.__defaults__, function.__kwdefaults__
    definition.decorator_list, definition.returns = [], None
    arguments = definition.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [None if d is None else ast.Constant(None) for d in arguments.kw_defaults]
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    outer: Any = ast.parse("def outer():\n    pass").body[0]
    free = [ast.parse(f"{name} = None").body[0] for name in code.co_freevars]
    outer.body = [*free, definition]
    tree = ast.fix_missing_locations(ast.Module([outer], []))
    flags = code.co_flags & 0x1FF0000  # the future statements of the file
    whole = compile(tree, code.co_filename, "exec", flags=flags, dont_inherit=True)
    outer_code = next(c for c in whole.co_consts if isinstance(c, CodeType))
    new = next((c for c in outer_code.co_consts if isinstance(c, CodeType) and c.co_name == code.co_name), None)
    if new is None or not set(new.co_freevars) <= set(code.co_freevars):
        return None
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    made = FunctionType(new, function.__globals__, function.__name__, defaults, tuple(cells[n] for n in new.co_freevars))
    made.__kwdefaults__ = keyword_defaults
    return made
