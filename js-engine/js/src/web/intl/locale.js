// What all classes of `Intl` share: one locale, en-US, and refusals by name for everything else.

import { tag } from "../event.js";

export const LOCALE = "en-US";

const TAG = /^[a-z]{2,3}(-[a-z0-9]{2,8})*$/i;

/** Returns en-US if one of the requested locales is English as in the United States. Otherwise throws. */
export function resolveLocale(locales) {
  const list = canonicalLocales(locales);
  if (list.length > 0 && !list.some(isAvailable)) {
    throw new RangeError(`Intl: the locale ${list.join(", ")} is not available in a handler; available is ${LOCALE}`);
  }
  return LOCALE;
}

export function supportedLocales(locales) {
  return canonicalLocales(locales).filter(isAvailable);
}

function isAvailable(locale) {
  return locale === "en" || locale === LOCALE || locale.startsWith(`${LOCALE}-u-`) || locale.startsWith("en-u-");
}

export function canonicalLocales(locales) {
  if (locales === undefined) return [];
  const list = typeof locales === "string" || locales instanceof Locale ? [locales] : [...locales];
  return [...new Set(list.map((locale) => {
    const text = `${locale}`;
    if (!TAG.test(text)) throw new RangeError(`Intl: ${JSON.stringify(text)} is not a locale`);
    return canonical(text);
  }))];
}

function canonical(locale) {
  let extension = false;
  return locale.split("-").map((part, index) => {
    if (part.length === 1) extension = true;
    if (index === 0 || extension) return part.toLowerCase();
    if (part.length === 2) return part.toUpperCase();
    return part.length === 4 && /^[a-z]+$/i.test(part) ? part[0].toUpperCase() + part.slice(1).toLowerCase() : part.toLowerCase();
  }).join("-");
}

/** Returns the value of an option, which must be one of `values` if they are given. */
export function option(options, name, values, fallback) {
  const value = options?.[name];
  if (value === undefined) return fallback;
  const text = `${value}`;
  if (values && !values.includes(text)) {
    throw new RangeError(`Intl: the value ${JSON.stringify(text)} of the option ${name} is not available; available are ${values.join(", ")}`);
  }
  return text;
}

/** Throws if one of the options is given, because it would change the result. */
export function refuseOptions(options, names) {
  for (const name of names) {
    if (options?.[name] !== undefined) throw new RangeError(`Intl: the option ${name} is not available in a handler`);
  }
}

export function numberOption(options, name, least, most, fallback) {
  const value = options?.[name];
  if (value === undefined) return fallback;
  const number = Math.floor(Number(value));
  if (!(number >= least && number <= most)) {
    throw new RangeError(`Intl: the value ${value} of the option ${name} is not between ${least} and ${most}`);
  }
  return number;
}

/** Adds what every class has: `supportedLocalesOf` and the tag. */
export function finish(constructor, name) {
  const value = (locales) => supportedLocales(locales);
  Object.defineProperty(constructor, "supportedLocalesOf", { value, writable: true, configurable: true });
  tag(constructor, `Intl.${name}`);
}

export class Locale {
  #tag;
  constructor(locale) {
    if (typeof locale !== "string" && !(locale instanceof Locale)) throw new TypeError("Intl.Locale: the argument is not a string");
    [this.#tag] = canonicalLocales(locale);
  }
  get baseName() { return this.#tag.replace(/-[a-z0-9]-.*/, ""); }
  get language() { return this.#tag.split("-")[0]; }
  get region() { return this.baseName.split("-").slice(1).find((part) => /^([A-Z]{2}|[0-9]{3})$/.test(part)); }
  get script() { return this.baseName.split("-").slice(1).find((part) => /^[A-Z][a-z]{3}$/.test(part)); }
  toString() { return this.#tag; }
}
tag(Locale, "Intl.Locale");
