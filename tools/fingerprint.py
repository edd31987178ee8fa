"""What a function of ours does, and all that it calls, as one checksum.

A recorded measurement is stale when the code that made it does something else today. Comments,
docstrings, decorators, warnings and the words of errors change no number, so they do not count.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache

from tools.pages import ROOT

UNSAID = {"ctx", "decorator_list", "kind", "type_comment", "type_params"}  # of no or fixed meaning


def fingerprint(module: str, name: str) -> str:
    """Twelve hexadecimal digits for a definition, such as ``"tools.carry", "mixing_rises"``.

    What it names of ``helpers`` and ``tools`` counts, directly or through others: functions,
    classes and constants. What is reached through an argument only is found by its annotation.

    Raises
    ------
    KeyError
        The module defines no such name.
    """
    found = reached(module, name)
    return hashlib.sha256("\n".join(found[one] for one in sorted(found)).encode()).hexdigest()[:12]


def reached(module: str, name: str) -> dict[tuple[str, str], str]:
    """What each definition does that this one names, itself included, by module and name."""
    found, todo = {}, [(module, name)]
    while todo:
        place, word = one = todo.pop()
        if one not in found:
            found[one], named = definitions(place)[word]
            todo += [(there, it) for there, it in named if it in definitions(there)]
    return found


def source(module: str) -> str | None:
    """The text of a module of ours; None for any other."""
    if module.split(".")[0] not in ("helpers", "tools"):
        return None
    folder = ROOT / module.replace(".", "/")
    for path in (folder.with_suffix(".py"), folder / "__init__.py"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


@cache
def definitions(module: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Of each top-level name of a module: what it does, and which of our definitions it names."""
    tree, nodes = ast.parse(source(module)), {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names, node.decorator_list = [node.name], []
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        else:
            continue
        for name in names:
            nodes.setdefault(name, []).append(node)
    modules, others = _imported(tree)
    found = {word: ("", [there]) for word, there in others.items()}
    for name, mine in nodes.items():
        named = set()
        for part in (part for node in mine for part in ast.walk(node)):
            match part:
                case ast.Attribute(value=ast.Name(id=word), attr=attribute) if word in modules:
                    named.add((modules[word], attribute))
                case ast.Name(id=word, ctx=ast.Load()) if word in nodes or word in others:
                    named.add((module, word))
        found[name] = "\n".join(map(_plain, mine)), sorted(named)
    return found


def _imported(tree: ast.Module) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """By the word in use: modules of ours, and names of theirs with the module."""
    modules, names = {}, {}
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.ImportFrom) else []:
            word, inside = alias.asname or alias.name, f"{node.module}.{alias.name}"
            if source(inside) is not None:
                modules[word] = inside
            elif source(node.module) is not None:
                names[word] = node.module, alias.name
    return modules, names


def _plain(node: object) -> str:
    """The tree as text, the same in each version of Python, without what changes no number."""
    if isinstance(node, list):
        return f"[{', '.join(map(_plain, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    match node:
        case ast.Raise():
            fields = {}
        case ast.Expr(value=ast.Constant()):  # a docstring
            fields = {}
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="warn"))):
            fields = {}
    told = [
        f"{k}={_plain(v)}" for k, v in fields.items() if k not in UNSAID and v not in (None, [])
    ]
    return f"{type(node).__name__}({', '.join(told)})"
