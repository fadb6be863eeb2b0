// Intl.Collator, PluralRules, ListFormat and RelativeTimeFormat for en-US.

import { LOCALE, finish, option, refuseOptions, resolveLocale } from "./locale.js";
import { NumberFormat } from "./number-format.js";

export class Collator {
  #settings;

  constructor(locales = undefined, options = undefined) {
    resolveLocale(locales);
    this.#settings = {
      usage: option(options, "usage", ["sort", "search"], "sort"),
      sensitivity: option(options, "sensitivity", ["base", "accent", "case", "variant"], "variant"),
      ignorePunctuation: Boolean(options?.ignorePunctuation),
      numeric: Boolean(options?.numeric),
      caseFirst: option(options, "caseFirst", ["false", "upper", "lower"], "false"),
    };
  }

  get compare() {
    return (a, b) => compare(`${a}`, `${b}`, this.#settings);
  }

  resolvedOptions() {
    return { locale: LOCALE, collation: "default", ...this.#settings };
  }
}
finish(Collator, "Collator");

/** Compares first the letters alone, then their accents, and then their case, as the Unicode Collation Algorithm does. */
export function compare(a, b, { sensitivity, ignorePunctuation, numeric, caseFirst }) {
  if (a === b) return 0;
  if (ignorePunctuation) [a, b] = [a, b].map((text) => text.replace(/[\p{P}\p{Z}\s]/gu, ""));
  const decomposed = [a.normalize("NFD"), b.normalize("NFD")];
  const bases = decomposed.map((text) => text.replace(/\p{M}/gu, ""));
  const [first, second] = bases.map((text) => text.toLowerCase());
  const byBase = compareLetters(first, second, numeric);
  if (byBase !== 0) return byBase;
  if (sensitivity === "accent" || sensitivity === "variant") {
    const [one, two] = decomposed.map((text) => text.toLowerCase());
    if (one !== two) return one < two ? -1 : 1;
  }
  if (sensitivity === "case" || sensitivity === "variant") {
    for (let index = 0; index < Math.min(bases[0].length, bases[1].length); index++) {
      const [one, two] = [bases[0][index], bases[1][index]];
      // Lower case comes first unless `caseFirst` says otherwise.
      if (one !== two) return (one === first[index]) === (caseFirst !== "upper") ? -1 : 1;
    }
  }
  return 0;
}

function compareLetters(a, b, numeric) {
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (numeric && isDigit(a[i]) && isDigit(b[j])) {
      const [one, two] = [/^\d+/.exec(a.slice(i))[0], /^\d+/.exec(b.slice(j))[0]];
      const [left, right] = [BigInt(one), BigInt(two)];
      if (left !== right) return left < right ? -1 : 1;
      i += one.length;
      j += two.length;
      continue;
    }
    const [left, right] = [a.codePointAt(i), b.codePointAt(j)];
    if (left !== right) {
      const order = rank(left) - rank(right) || left - right;
      return order < 0 ? -1 : 1;
    }
    i += left > 0xffff ? 2 : 1;
    j += right > 0xffff ? 2 : 1;
  }
  const rest = a.length - i - (b.length - j);
  return Math.sign(rest);
}

/** White space comes before punctuation, then come symbols, digits and letters. */
function rank(code) {
  const character = String.fromCodePoint(code);
  if (/[\s\p{Z}\p{C}]/u.test(character)) return 0;
  if (character === "_" || character === "-") return 1;
  if (/\p{P}/u.test(character)) return 2;
  if (/\p{S}/u.test(character)) return 3;
  return /\p{N}/u.test(character) ? 4 : 5;
}

function isDigit(character) {
  return character >= "0" && character <= "9";
}

export class PluralRules {
  #type;
  #number;

  constructor(locales = undefined, options = undefined) {
    resolveLocale(locales);
    this.#type = option(options, "type", ["cardinal", "ordinal"], "cardinal");
    const { minimumFractionDigits, maximumFractionDigits, minimumIntegerDigits, minimumSignificantDigits, maximumSignificantDigits } = options ?? {};
    this.#number = new NumberFormat(LOCALE, {
      minimumFractionDigits, maximumFractionDigits, minimumIntegerDigits, minimumSignificantDigits, maximumSignificantDigits, useGrouping: false,
    });
  }

  select(value) {
    const text = this.#number.format(Math.abs(Number(value)));
    if (this.#type === "cardinal") return text === "1" ? "one" : "other";
    const [, tens = "", ones] = /(\d)?(\d)$/.exec(text) ?? [];
    if (text.includes(".") || tens === "1") return "other";
    return { 1: "one", 2: "two", 3: "few" }[ones] ?? "other";
  }

  resolvedOptions() {
    const { minimumIntegerDigits, minimumFractionDigits, maximumFractionDigits } = this.#number.resolvedOptions();
    const pluralCategories = this.#type === "cardinal" ? ["one", "other"] : ["few", "one", "two", "other"];
    return { locale: LOCALE, type: this.#type, minimumIntegerDigits, minimumFractionDigits, maximumFractionDigits, pluralCategories };
  }
}
finish(PluralRules, "PluralRules");

export class ListFormat {
  #type;
  #style;

  constructor(locales = undefined, options = undefined) {
    resolveLocale(locales);
    this.#type = option(options, "type", ["conjunction", "disjunction", "unit"], "conjunction");
    this.#style = option(options, "style", ["long", "short", "narrow"], "long");
  }

  format(list) {
    return this.formatToParts(list).map((part) => part.value).join("");
  }

  formatToParts(list) {
    const items = [...list];
    const word = this.#type === "disjunction" ? "or" : this.#style === "long" ? "and" : "&";
    const narrow = this.#style === "narrow";
    const [between, last, pair] = this.#type === "unit"
      ? (narrow ? [" ", " ", " "] : [", ", ", ", ", "])
      : this.#type === "conjunction" && narrow ? [", ", ", ", ", "] : [", ", `, ${word} `, ` ${word} `];
    return items.flatMap((value, index) => {
      if (typeof value !== "string") throw new TypeError("Intl.ListFormat: an element is not a string");
      if (index === 0) return [{ type: "element", value }];
      const literal = items.length === 2 ? pair : index === items.length - 1 ? last : between;
      return [{ type: "literal", value: literal }, { type: "element", value }];
    });
  }

  resolvedOptions() {
    return { locale: LOCALE, type: this.#type, style: this.#style };
  }
}
finish(ListFormat, "ListFormat");

const UNITS = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
const SHORT = { second: "sec.", minute: "min.", hour: "hr.", week: "wk.", month: "mo.", quarter: "qtr.", year: "yr." };
const AUTO = {
  second: { 0: "now" }, minute: { 0: "this minute" }, hour: { 0: "this hour" },
  day: { "-1": "yesterday", 0: "today", 1: "tomorrow" },
};

export class RelativeTimeFormat {
  #numeric;
  #style;
  #number = new NumberFormat(LOCALE);

  constructor(locales = undefined, options = undefined) {
    resolveLocale(locales);
    refuseOptions(options, ["numberingSystem"]);
    this.#numeric = option(options, "numeric", ["always", "auto"], "always");
    this.#style = option(options, "style", ["long", "short"], "long");
  }

  format(value, unit) {
    const name = `${unit}`.replace(/s$/, "");
    if (!UNITS.includes(name)) throw new RangeError(`Intl.RelativeTimeFormat: ${unit} is not a unit`);
    const number = Number(value);
    if (!Number.isFinite(number)) throw new RangeError("Intl.RelativeTimeFormat: the value is not a finite number");
    const short = this.#style === "short" ? SHORT[name] : undefined;
    if (this.#numeric === "auto" && Math.abs(number) <= 1) {
      const fixed = AUTO[name]?.[number];
      if (fixed) return fixed;
      if (!AUTO[name] && Number.isInteger(number)) return `${{ "-1": "last", 0: "this", 1: "next" }[number]} ${short ?? name}`;
    }
    const amount = this.#number.format(Math.abs(number));
    const plural = short === "qtr." && amount !== "1" ? "qtrs." : short ?? (amount === "1" ? name : `${name}s`);
    return number < 0 || Object.is(number, -0) ? `${amount} ${plural} ago` : `in ${amount} ${plural}`;
  }

  resolvedOptions() {
    return { locale: LOCALE, style: this.#style, numeric: this.#numeric, numberingSystem: "latn" };
  }
}
finish(RelativeTimeFormat, "RelativeTimeFormat");
