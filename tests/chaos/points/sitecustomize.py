"""Python imports this in every process whose PYTHONPATH has this folder: the points of `kill_points` become deadly.

The daemon itself knows nothing of it.
"""

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # its name to type checkers, for which `tests` is the path
    from chaos.points.kill_points import (
        AFTER,
        AT_RETENTION,
        BEFORE,
        DURING,
        POINTS,
        TOKENS_VARIABLE,
        KillPoint,
        Tokens,
        victim_of,
    )
else:
    from kill_points import AFTER, AT_RETENTION, BEFORE, DURING, POINTS, TOKENS_VARIABLE, KillPoint, Tokens, victim_of

#: How long a call goes on before a point "during" it strikes.
DURING_SECONDS = 0.1


def deadly(point: KillPoint, function: Callable[..., Any], tokens: Tokens) -> Callable[..., Any]:
    """Wrap a function so that coming by is deadly when there is a token."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        here = point.is_here() and point.condition(*arguments)
        if here and point.when == BEFORE:
            die(point, tokens)
        if here and point.when == DURING:
            threading.Timer(DURING_SECONDS, die, (point, tokens)).start()
        returned = function(*arguments, **options)
        if here and point.when == AFTER:
            die(point, tokens)
        return returned

    return wrapper


def die(point: KillPoint, tokens: Tokens) -> None:
    """Die, if there is a token."""
    victim = victim_of(point)
    if tokens.take(point, victim):
        os.kill(victim, signal.SIGKILL)


class _Wrapping(Loader):
    """Loads a module as its own loader does, then wraps the functions of its points."""

    def __init__(self, loader: Loader, tokens: Tokens) -> None:
        self._loader = loader
        self._tokens = tokens

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        for point in (*POINTS, AT_RETENTION):
            if point.module == module.__name__:
                owner, name = point.owner(module)
                setattr(owner, name, deadly(point, getattr(owner, name), self._tokens))


class _Finder(MetaPathFinder):
    """Finds the modules that have points, by asking the finders behind it."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._modules = {point.module for point in (*POINTS, AT_RETENTION) if point.module}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._modules:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Wrapping(spec.loader, self._tokens)
                return spec
        return None


if TOKENS_VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder(Tokens(Path(os.environ[TOKENS_VARIABLE]))))
