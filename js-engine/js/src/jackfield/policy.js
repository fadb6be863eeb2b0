// Policy documents of Lambda authorizers: whether one allows `execute-api:Invoke` on an ARN.
//
// An explicit Deny wins, and what no statement allows is denied. A part that cannot be evaluated is an error: to ignore a
// condition, for example, could admit a peer that the condition excludes.

const INVOKE = "execute-api:invoke";
const ARN_PARTS = 6;
const ITEMS_MAX = 1024;
const STATEMENT_KEYS = ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"];

function bad(found, expected) {
  return new TypeError(`the policyDocument has ${found}; expected ${expected}`);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Returns an object with `allows(arn)`. Throws for a document of which a part is not understood. */
export function parsePolicy(given) {
  const document = typeof given === "string" ? parseJson(given) : given;
  if (!isObject(document)) throw bad("no object", "an object with a Statement");
  for (const [key, value] of Object.entries(document)) {
    if (key === "Version" && value !== "2012-10-17" && value !== "2008-10-17") throw bad("an unknown Version", '"2012-10-17"');
    if (!["Version", "Id", "Statement"].includes(key)) throw bad("an unknown key", "only Version, Id and Statement");
  }
  const list = Array.isArray(document.Statement) ? document.Statement : isObject(document.Statement) ? [document.Statement] : undefined;
  if (list === undefined) throw bad("no Statement", "a list of statements");
  const statements = list.map(parseStatement);
  const count = statements.reduce((sum, { actions, resources }) => sum + 1 + actions.patterns.length + resources.patterns.length, 0);
  if (count > ITEMS_MAX) throw bad(`${count} statements, actions and resources`, `at most ${ITEMS_MAX}`);
  return { allows: (arn) => !anyMatches(statements, false, arn) && anyMatches(statements, true, arn) };
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw bad("a string that is not JSON", "an object");
  }
}

function parseStatement(statement) {
  if (!isObject(statement)) throw bad("a statement that is no object", "an object with Effect, Action and Resource");
  if ("Condition" in statement) throw bad("a Condition", "none, because conditions are not evaluated: decide in the authorizer");
  if (Object.keys(statement).some((key) => !STATEMENT_KEYS.includes(key))) throw bad("an unknown key in a statement", "only Sid, Effect, Action and Resource");
  if (statement.Effect !== "Allow" && statement.Effect !== "Deny") throw bad("a statement with an invalid Effect", '"Allow" or "Deny"');
  return {
    allows: statement.Effect === "Allow",
    actions: parsePatterns(statement, "Action", "NotAction"),
    resources: parsePatterns(statement, "Resource", "NotResource"),
  };
}

function parsePatterns(statement, key, negatedKey) {
  const [isGiven, isNegated] = [statement[key] !== undefined, statement[negatedKey] !== undefined];
  if (isGiven === isNegated) throw bad(isGiven ? `a statement with ${key} and ${negatedKey}` : `a statement without ${key}`, "one of them");
  const value = isGiven ? statement[key] : statement[negatedKey];
  const patterns = typeof value === "string" ? [value] : value;
  if (!Array.isArray(patterns) || patterns.length === 0 || !patterns.every((one) => typeof one === "string")) {
    throw bad(`a statement with an invalid ${key}`, "a string or a list of strings");
  }
  return { isNegated, patterns };
}

function anyMatches(statements, allows, arn) {
  return statements.some((statement) =>
    statement.allows === allows &&
    matchesAny(statement.actions, (pattern) => matches(pattern.toLowerCase(), INVOKE)) &&
    matchesAny(statement.resources, (pattern) => matchesArn(pattern, arn)));
}

function matchesAny({ isNegated, patterns }, isMatch) {
  return patterns.some(isMatch) !== isNegated;
}

/** Each part of an ARN is matched apart; parts that a pattern lacks at its end match everything. */
function matchesArn(pattern, arn) {
  if (pattern === "*") return true;
  const patterns = splitArn(pattern);
  return splitArn(arn).every((part, index) => matches(patterns[index] ?? "*", part));
}

function splitArn(arn) {
  const parts = arn.split(":");
  return parts.length <= ARN_PARTS ? parts : [...parts.slice(0, ARN_PARTS - 1), parts.slice(ARN_PARTS - 1).join(":")];
}

/** `*` matches any number of characters, `?` exactly one. Only the last `*` is ever tried again. */
function matches(patternText, valueText) {
  const [pattern, text] = [[...patternText], [...valueText]];
  let [at, next, starAt, taken] = [0, 0, -1, 0];
  while (next < text.length) {
    if (pattern[at] === "*") {
      [starAt, taken] = [at, next];
      at++;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === text[next])) {
      at++;
      next++;
    } else if (starAt >= 0) {
      taken++;
      [at, next] = [starAt + 1, taken];
    } else {
      return false;
    }
  }
  return pattern.slice(at).every((rest) => rest === "*");
}
