"""The programming languages that are read by their syntax: which nodes define something, and how they name it."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Node, Parser


class Syntax(NamedTuple):
    """What of a grammar is looked at.

    Attributes:
        module, function: Of the Python package of the grammar.
        definitions: Nodes that become a section.
        containers: Definitions that are entered for those within them.
        wrappers: Nodes around a definition that belong to it.
    """

    module: str
    function: str
    definitions: frozenset[str]
    containers: frozenset[str]
    wrappers: frozenset[str]


def _syntax(module: str, definitions: str, containers: str, wrappers: str = "", function: str = "language") -> Syntax:
    inner = frozenset(containers.split())
    return Syntax(module, function, inner | set(definitions.split()), inner, frozenset(wrappers.split()))


_SCRIPT = "function_declaration generator_function_declaration method_definition"
_TYPED = f"{_SCRIPT} interface_declaration type_alias_declaration enum_declaration abstract_method_signature"
_SPACES = "class_declaration abstract_class_declaration internal_module module"
_HELD = "export_statement lexical_declaration variable_declaration expression_statement ambient_declaration"
_PLAIN_C = "function_definition struct_specifier union_specifier enum_specifier type_definition"

SYNTAXES = {
    "python": _syntax("tree_sitter_python", "function_definition", "class_definition", "decorated_definition"),
    "javascript": _syntax("tree_sitter_javascript", _SCRIPT, "class_declaration", _HELD),
    "typescript": _syntax("tree_sitter_typescript", _TYPED, _SPACES, _HELD, "language_typescript"),
    "tsx": _syntax("tree_sitter_typescript", _TYPED, _SPACES, _HELD, "language_tsx"),
    "go": _syntax("tree_sitter_go", "function_declaration method_declaration type_declaration", ""),
    "rust": _syntax(
        "tree_sitter_rust",
        "function_item struct_item enum_item union_item macro_definition function_signature_item",
        "impl_item trait_item mod_item",
    ),
    "c": _syntax("tree_sitter_c", _PLAIN_C, ""),
    "cpp": _syntax(
        "tree_sitter_cpp",
        f"{_PLAIN_C} alias_declaration",
        "class_specifier struct_specifier namespace_definition",
        "template_declaration linkage_specification",
    ),
    "java": _syntax(
        "tree_sitter_java",
        "method_declaration constructor_declaration annotation_type_declaration",
        "class_declaration interface_declaration enum_declaration record_declaration",
    ),
}

_BODY_NODES = """
    block class_body statement_block declaration_list field_declaration_list interface_body enum_body
    enum_body_declarations object_type
"""
#: Nodes between a container and its members.
BODIES = frozenset(_BODY_NODES.split())
_NAME_NODES = """
    identifier field_identifier type_identifier property_identifier private_property_identifier destructor_name
    operator_name qualified_identifier namespace_identifier nested_namespace_specifier string
"""
_NAMES = frozenset(_NAME_NODES.split())
#: What `const f = () => ...` makes of a variable.
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function", "class"})


@cache
def parser_of(language: str) -> Parser:
    """The parser of a language of `SYNTAXES`."""
    from tree_sitter import Language, Parser

    syntax = SYNTAXES[language]
    grammar = getattr(importlib.import_module(syntax.module), syntax.function)()
    return Parser(Language(grammar))


def name_of(node: Node) -> str:
    """What a definition calls itself; "" where it has no name."""
    receiver = node.child_by_field_name("receiver")
    name = node.child_by_field_name("name") or node.child_by_field_name("type")
    if node.type in ("type_declaration", "type_definition"):
        name = _first(node, "name") or node.child_by_field_name("declarator")
    elif name is None or node.type == "function_definition":
        name = _declared(node) or name
    said = _text(name) if name else ""
    kind = _receiver(receiver) if receiver else ""
    return f"{kind}.{said}" if kind else said


def bound(node: Node) -> Node | None:
    """The node that a variable is bound to, if that is a function or a class: `const f = () => ...`."""
    for child in node.named_children:
        if child.type == "variable_declarator":
            value = child.child_by_field_name("value")
            if value is not None and value.type in _FUNCTIONS:
                return child
    return None


def _first(node: Node, field: str) -> Node | None:
    for child in node.named_children:
        if (found := child.child_by_field_name(field)) is not None:
            return found
    return None


def _declared(node: Node) -> Node | None:
    """The name within C's declarators: pointers to functions of arrays, and so on."""
    inner = node.child_by_field_name("declarator")
    while inner is not None and inner.type not in _NAMES:
        inner = inner.child_by_field_name("declarator") or next(iter(inner.named_children), None)
    return inner


def _receiver(node: Node) -> str:
    words = _text(node).strip("()").replace("*", " ").split()
    return words[-1].partition("[")[0] if words else ""


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
