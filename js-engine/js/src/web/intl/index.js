// `Intl` for English as in the United States and UTC. What is not there is refused by name, so that no handler shows its
// users a wrong date or number. Also the methods of Date, Number, BigInt and String that format by a locale.

import { DateTimeFormat } from "./date-time-format.js";
import { Locale, canonicalLocales } from "./locale.js";
import { NumberFormat } from "./number-format.js";
import { Collator, ListFormat, PluralRules, RelativeTimeFormat, compare } from "./text.js";

/** Allows a class to be called without `new`, as these classes always could be. */
function callable(constructor) {
  return new Proxy(constructor, { apply: (_target, _self, args) => new constructor(...args) });
}

function refused(name) {
  return class {
    constructor() {
      throw new Error(`Intl.${name} is not available in a handler`);
    }
  };
}

export const Intl = {};
const members = {
  Collator: callable(Collator),
  DateTimeFormat: callable(DateTimeFormat),
  ListFormat,
  Locale,
  NumberFormat: callable(NumberFormat),
  PluralRules,
  RelativeTimeFormat,
  DisplayNames: refused("DisplayNames"),
  DurationFormat: refused("DurationFormat"),
  Segmenter: refused("Segmenter"),
  getCanonicalLocales: canonicalLocales,
  supportedValuesOf,
};
for (const [name, value] of Object.entries(members)) {
  Object.defineProperty(Intl, name, { value, writable: true, configurable: true });
}
Object.defineProperty(Intl, Symbol.toStringTag, { value: "Intl", configurable: true });

function supportedValuesOf(key) {
  const values = { calendar: ["gregory"], collation: ["default"], numberingSystem: ["latn"], timeZone: ["UTC"], currency: [], unit: [] };
  const list = values[key];
  if (!list) throw new RangeError(`Intl.supportedValuesOf: ${key} is not a key`);
  return list;
}

export function addLocaleMethods() {
  // Most programs give neither a locale nor options. Their formats are made once, in the base image.
  const plain = new NumberFormat();
  const number = (locales, options) => (locales === undefined && options === undefined ? plain : new NumberFormat(locales, options));
  const all = new DateTimeFormat(undefined, undefined, "any", "all");
  const dateFormat = (required, defaults) => function (locales = undefined, options = undefined) {
    const time = this.getTime();
    if (Number.isNaN(time)) return "Invalid Date";
    if (defaults === "all" && locales === undefined && options === undefined) return all.format(time);
    return new DateTimeFormat(locales, options, required, defaults).format(time);
  };
  const variant = { sensitivity: "variant", ignorePunctuation: false, numeric: false, caseFirst: "false" };
  define(Date.prototype, {
    toLocaleString: dateFormat("any", "all"),
    toLocaleDateString: dateFormat("date", "date"),
    toLocaleTimeString: dateFormat("time", "time"),
  });
  define(Number.prototype, {
    toLocaleString(locales = undefined, options = undefined) {
      return number(locales, options).format(Number.prototype.valueOf.call(this));
    },
  });
  define(BigInt.prototype, {
    toLocaleString(locales = undefined, options = undefined) {
      return number(locales, options).format(BigInt.prototype.valueOf.call(this));
    },
  });
  define(String.prototype, {
    localeCompare(that, locales = undefined, options = undefined) {
      if (locales === undefined && options === undefined) return compare(`${this}`, `${that}`, variant);
      return new Collator(locales, options).compare(`${this}`, that);
    },
  });
}

function define(prototype, methods) {
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
  }
}
