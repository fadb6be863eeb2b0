// Intl.NumberFormat for en-US.

import { LOCALE, finish, numberOption, option, refuseOptions, resolveLocale } from "./locale.js";

/** Symbols of currencies in en-US; others are written as their code. */
const SYMBOLS = {
  USD: "$", EUR: "€", GBP: "£", JPY: "¥", INR: "₹", CNY: "CN¥", KRW: "₩", BRL: "R$", CAD: "CA$", AUD: "A$", MXN: "MX$",
  NZD: "NZ$", HKD: "HK$", TWD: "NT$", ILS: "₪", VND: "₫", PHP: "₱", XAF: "FCFA", XCD: "EC$", XPF: "CFPF", XOF: "F\u202fCFA",
};
const NARROW = { ...SYMBOLS, CNY: "¥", CAD: "$", AUD: "$", MXN: "$", NZD: "$", HKD: "$", TWD: "$", XCD: "$" };
const CURRENCY_DIGITS = {
  ...Object.fromEntries("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" ").map((code) => [code, 0])),
  ...Object.fromEntries("BHD IQD JOD KWD LYD OMR TND".split(" ").map((code) => [code, 3])),
};
const COMPACT = [[12, "T", " trillion"], [9, "B", " billion"], [6, "M", " million"], [3, "K", " thousand"]];

export class NumberFormat {
  #settings;

  constructor(locales = undefined, options = undefined) {
    resolveLocale(locales);
    this.#settings = resolve(options);
  }

  get format() {
    return (value) => this.formatToParts(value).map((part) => part.value).join("");
  }

  formatToParts(value) {
    const settings = this.#settings;
    const { text, negative } = decimalOf(value);
    const number = text === "NaN" || text === "Infinity"
      ? [text === "NaN" ? { type: "nan", value: "NaN" } : { type: "infinity", value: "∞" }]
      : finiteParts(text, settings);
    const isZero = text === "NaN" || number.every((part) => !/[1-9∞]/.test(part.value));
    const sign = signOf(negative, isZero, settings.signDisplay);
    return decorate(number, sign, settings);
  }

  formatRange(from, to) {
    const [start, end] = [this.format(from), this.format(to)];
    return start === end ? `~${start}` : `${start}–${end}`;
  }

  resolvedOptions() {
    const { style, currency, currencyDisplay, currencySign, significant, ...rest } = this.#settings;
    const result = {
      locale: LOCALE, numberingSystem: "latn", style, currency,
      ...(style === "currency" ? { currencyDisplay, currencySign } : {}),
      minimumIntegerDigits: rest.integer,
      ...(significant ? { minimumSignificantDigits: significant[0], maximumSignificantDigits: significant[1] }
        : { minimumFractionDigits: rest.fraction[0], maximumFractionDigits: rest.fraction[1] }),
      useGrouping: rest.grouping === "false" ? false : rest.grouping, notation: rest.notation,
      ...(rest.notation === "compact" ? { compactDisplay: rest.compactDisplay } : {}),
      signDisplay: rest.signDisplay, roundingIncrement: 1, roundingMode: "halfExpand", roundingPriority: "auto",
      trailingZeroDisplay: rest.strip ? "stripIfInteger" : "auto",
    };
    return Object.fromEntries(Object.entries(result).filter(([, value]) => value !== undefined));
  }
}
finish(NumberFormat, "NumberFormat");

function resolve(options) {
  refuseOptions(options, ["unit"]);
  option(options, "numberingSystem", ["latn"]);
  option(options, "roundingMode", ["halfExpand"]);
  option(options, "roundingIncrement", ["1"]);
  option(options, "roundingPriority", ["auto"]);
  const style = option(options, "style", ["decimal", "percent", "currency"], "decimal");
  const notation = option(options, "notation", ["standard", "compact"], "standard");
  const currency = option(options, "currency")?.toUpperCase();
  if (currency !== undefined && !/^[A-Z]{3}$/.test(currency)) throw new RangeError(`Intl.NumberFormat: ${currency} is not the code of a currency`);
  if (style === "currency" && currency === undefined) throw new TypeError("Intl.NumberFormat: the option currency is required with the style currency");
  const digits = style === "currency" && notation === "standard" ? CURRENCY_DIGITS[currency] ?? 2 : 0;
  const most = style === "currency" ? digits : style === "percent" || notation === "compact" ? 0 : 3;
  const { fraction, hasFraction } = fractionDigits(options, digits, most);
  const least = numberOption(options, "minimumSignificantDigits", 1, 21);
  const largest = numberOption(options, "maximumSignificantDigits", least ?? 1, 21);
  const isSignificant = least !== undefined || largest !== undefined;
  return {
    style, notation, fraction,
    currency: style === "currency" ? currency : undefined,
    currencyDisplay: option(options, "currencyDisplay", ["symbol", "narrowSymbol", "code"], "symbol"),
    currencySign: option(options, "currencySign", ["standard", "accounting"], "standard"),
    compactDisplay: option(options, "compactDisplay", ["short", "long"], "short"),
    signDisplay: option(options, "signDisplay", ["auto", "always", "exceptZero", "negative", "never"], "auto"),
    grouping: option(options, "useGrouping", ["auto", "always", "min2", "true", "false"], notation === "compact" ? "min2" : "auto"),
    integer: numberOption(options, "minimumIntegerDigits", 1, 21, 1),
    significant: isSignificant ? [least ?? 1, largest ?? 21] : undefined,
    strip: option(options, "trailingZeroDisplay", ["auto", "stripIfInteger"], "auto") === "stripIfInteger",
    /** A compact number without other digits has two significant ones. */
    compactRounding: notation === "compact" && !isSignificant && !hasFraction,
  };
}

function fractionDigits(options, digits, most) {
  const least = numberOption(options, "minimumFractionDigits", 0, 100);
  const largest = numberOption(options, "maximumFractionDigits", 0, 100);
  const minimum = least ?? Math.min(digits, largest ?? digits);
  const maximum = largest ?? Math.max(most, minimum);
  if (minimum > maximum) throw new RangeError(`Intl.NumberFormat: maximumFractionDigits is ${maximum}, less than minimumFractionDigits, ${minimum}`);
  return { fraction: [minimum, maximum], hasFraction: least !== undefined || largest !== undefined };
}

/** Returns the absolute value as decimal digits without an exponent, and whether the value is negative. */
function decimalOf(value) {
  if (typeof value === "bigint") return { text: `${value < 0n ? -value : value}`, negative: value < 0n };
  const string = typeof value === "string" && /^\s*[-+]?\d+(\.\d+)?\s*$/.test(value) ? value.trim() : undefined;
  if (string !== undefined) return { text: string.replace(/^[-+]/, "").replace(/^0+(?=\d)/, ""), negative: string.startsWith("-") };
  const number = Number(value);
  const negative = number < 0 || Object.is(number, -0);
  return { text: plain(`${Math.abs(number)}`), negative };
}

/** Writes a number like 1.5e-7 without an exponent. */
function plain(text) {
  const match = /^(\d+)(?:\.(\d+))?e([-+]\d+)$/.exec(text);
  if (!match) return text;
  const [, integer, fraction = "", exponent] = match;
  return shift(fraction ? `${integer}.${fraction}` : integer, Number(exponent));
}

/** Multiplies decimal digits by a power of ten. */
function shift(text, power) {
  const [integer, fraction = ""] = text.split(".");
  let all = integer + fraction;
  let point = integer.length + power;
  if (point <= 0) [all, point] = ["0".repeat(1 - point) + all, 1];
  if (point > all.length) all = all.padEnd(point, "0");
  const head = all.slice(0, point).replace(/^0+(?=\d)/, "");
  const tail = all.slice(point);
  return tail ? `${head}.${tail}` : head;
}

/** Rounds half away from zero to `places` digits after the point, which may be negative. */
function round(text, places) {
  const [integer, fraction = ""] = shift(text, places).split(".");
  const up = fraction !== "" && fraction[0] >= "5";
  return shift(up ? `${BigInt(integer) + 1n}` : integer, -places);
}

/** How many digits stand before the point; negative if zeros follow it. */
function magnitude(text) {
  const [integer, fraction = ""] = text.split(".");
  if (integer !== "0") return integer.length;
  const zeros = /^0*/.exec(fraction)[0].length;
  return zeros === fraction.length ? 1 : -zeros;
}

function roundBy(text, { fraction, significant, compactRounding }) {
  const [least, most] = significant ?? (compactRounding ? [1, 2] : []);
  if (most === undefined) return pad(round(text, fraction[1]), fraction[0]);
  // A compact number keeps all digits before its point.
  const places = compactRounding ? Math.max(most - magnitude(text), 0) : most - magnitude(text);
  const rounded = trim(round(text, places));
  return pad(rounded, Math.max(least - magnitude(rounded), 0));
}

function trim(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function pad(text, least) {
  const [integer, fraction = ""] = trim(text).split(".");
  const padded = fraction.padEnd(least, "0");
  return padded ? `${integer}.${padded}` : integer;
}

function finiteParts(text, settings) {
  if (settings.style === "percent") text = shift(text, 2);
  const unit = settings.notation === "compact" ? compactUnit(text, settings) : undefined;
  if (unit) text = shift(text, -unit[0]);
  let rounded = roundBy(text, settings);
  if (settings.strip) rounded = rounded.replace(/\.0+$/, "");
  const [integer, fraction] = rounded.split(".");
  const parts = groups(integer.padStart(settings.integer, "0"), settings.grouping);
  if (fraction) parts.push({ type: "decimal", value: "." }, { type: "fraction", value: fraction });
  if (unit && settings.compactDisplay === "short") parts.push({ type: "compact", value: unit[1] });
  if (unit && settings.compactDisplay === "long") parts.push({ type: "literal", value: " " }, { type: "compact", value: unit[2].trim() });
  return parts;
}

/** Returns the unit of a compact number. Rounding can lead to the next one: 999,999 is 1M, not 1000K. */
function compactUnit(text, settings) {
  const index = COMPACT.findIndex(([power]) => magnitude(text) > power);
  const unit = COMPACT[index];
  const next = COMPACT[(index < 0 ? COMPACT.length : index) - 1];
  return next && magnitude(roundBy(shift(text, -(unit?.[0] ?? 0)), settings)) > 3 ? next : unit;
}

function groups(integer, grouping) {
  if (grouping === "false" || (grouping === "min2" && integer.length < 5)) return [{ type: "integer", value: integer }];
  const parts = [];
  const first = integer.length % 3 || 3;
  for (let from = 0, to = first; from < integer.length; from = to, to += 3) {
    if (from > 0) parts.push({ type: "group", value: "," });
    parts.push({ type: "integer", value: integer.slice(from, to) });
  }
  return parts;
}

function signOf(negative, isZero, display) {
  switch (display) {
    case "never": return "";
    case "always": return negative ? "-" : "+";
    case "exceptZero": return isZero ? "" : negative ? "-" : "+";
    case "negative": return negative && !isZero ? "-" : "";
    default: return negative ? "-" : "";
  }
}

function decorate(number, sign, { style, currency, currencyDisplay, currencySign }) {
  const parts = [...number];
  if (style === "percent") parts.push({ type: "percentSign", value: "%" });
  if (style === "currency") {
    const symbol = (currencyDisplay === "code" ? {} : currencyDisplay === "narrowSymbol" ? NARROW : SYMBOLS)[currency] ?? currency;
    // A symbol that ends with a letter has a space behind it, which does not break the line.
    if (/[A-Z]$/i.test(symbol)) parts.unshift({ type: "literal", value: "\u00a0" });
    parts.unshift({ type: "currency", value: symbol });
    if (sign === "-" && currencySign === "accounting") {
      return [{ type: "literal", value: "(" }, ...parts, { type: "literal", value: ")" }];
    }
  }
  if (sign) parts.unshift({ type: sign === "-" ? "minusSign" : "plusSign", value: sign });
  return parts;
}
