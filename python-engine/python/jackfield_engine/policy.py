"""Policy documents of Lambda authorizers: whether one allows `execute-api:Invoke` on an ARN.

An explicit Deny wins, and what no statement allows is denied. A part that cannot be evaluated is an error: to ignore a
condition, for example, could admit a peer that the condition excludes.
"""

import json
from dataclasses import dataclass

_INVOKE = "execute-api:invoke"
_ITEMS_MAX = 1024
_KEYS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"}


@dataclass
class _Patterns:
    negated: bool
    patterns: list[str]

    def match_any(self, is_match) -> bool:
        return any(is_match(pattern) for pattern in self.patterns) != self.negated


@dataclass
class _Statement:
    allows: bool
    actions: _Patterns
    resources: _Patterns

    def matches(self, arn: str) -> bool:
        return self.actions.match_any(lambda pattern: _matches(pattern.lower(), _INVOKE)) and self.resources.match_any(
            lambda pattern: _matches_arn(pattern, arn)
        )


@dataclass
class Policy:
    statements: list[_Statement]

    def allows(self, arn: str) -> bool:
        matching = [statement.allows for statement in self.statements if statement.matches(arn)]
        return bool(matching) and all(matching)


def _bad(found: str, expected: str) -> TypeError:
    return TypeError(f"the policyDocument has {found}; expected {expected}")


def parse(document) -> Policy:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            raise _bad("a string that is not JSON", "an object") from None
    if not isinstance(document, dict):
        raise _bad("no object", "an object with a Statement")
    if document.get("Version", "2012-10-17") not in ("2012-10-17", "2008-10-17"):
        raise _bad("an unknown Version", '"2012-10-17"')
    if document.keys() - {"Version", "Id", "Statement"}:
        raise _bad("an unknown key", "only Version, Id and Statement")
    statements = document.get("Statement")
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list):
        raise _bad("no Statement", "a list of statements")
    policy = Policy([_statement(statement) for statement in statements])
    count = sum(1 + len(one.actions.patterns) + len(one.resources.patterns) for one in policy.statements)
    if count > _ITEMS_MAX:
        raise _bad(f"{count} statements, actions and resources", f"at most {_ITEMS_MAX}")
    return policy


def _statement(statement) -> _Statement:
    if not isinstance(statement, dict):
        raise _bad("a statement that is no object", "an object with Effect, Action and Resource")
    if "Condition" in statement:
        raise _bad("a Condition", "none, because conditions are not evaluated: decide in the authorizer")
    if statement.keys() - _KEYS:
        raise _bad("an unknown key in a statement", "only Sid, Effect, Action and Resource")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise _bad("a statement with an invalid Effect", '"Allow" or "Deny"')
    return _Statement(
        statement["Effect"] == "Allow",
        _patterns(statement, "Action", "NotAction"),
        _patterns(statement, "Resource", "NotResource"),
    )


def _patterns(statement, key: str, negated_key: str) -> _Patterns:
    if (key in statement) == (negated_key in statement):
        found = f"{key} and {negated_key}" if key in statement else f"no {key}"
        raise _bad(f"a statement with {found}", "one of them")
    negated = negated_key in statement
    value = statement[negated_key if negated else key]
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise _bad(f"a statement with an invalid {key}", "a string or a list of strings")
    return _Patterns(negated, patterns)


def _matches_arn(pattern: str, arn: str) -> bool:
    """Each part of an ARN is matched apart; parts that a pattern lacks at its end match everything."""
    if pattern == "*":
        return True
    patterns = pattern.split(":", 5)
    return all(
        _matches(patterns[index] if index < len(patterns) else "*", part)
        for index, part in enumerate(arn.split(":", 5))
    )


def _matches(pattern: str, text: str) -> bool:
    """`*` matches any number of characters, `?` exactly one. Only the last `*` is ever tried again."""
    at = taken = 0
    star = None
    while taken < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star = (at, taken)
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[taken]):
            at += 1
            taken += 1
        elif star is not None:
            star = (star[0], star[1] + 1)
            at, taken = star[0] + 1, star[1]
        else:
            return False
    return all(rest == "*" for rest in pattern[at:])
