// Intl.DateTimeFormat for en-US and UTC.

import { LOCALE, finish, numberOption, option, refuseOptions, resolveLocale } from "./locale.js";

const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December"];
const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const UTC_NAMES = ["utc", "gmt", "etc/utc", "etc/gmt", "etc/uct", "uct", "zulu", "etc/zulu", "+00:00", "+0000", "+00"];
const ZONE_NAMES = {
  short: "UTC", long: "Coordinated Universal Time", shortOffset: "GMT+0", longOffset: "GMT+00:00",
  shortGeneric: "GMT+0", longGeneric: "GMT+00:00",
};

const DIGITS = ["numeric", "2-digit"];
const TEXTS = ["long", "short", "narrow"];
const STYLES = ["full", "long", "medium", "short"];
const DATE_STYLES = {
  full: { weekday: "long", year: "numeric", month: "long", day: "numeric" },
  long: { year: "numeric", month: "long", day: "numeric" },
  medium: { year: "numeric", month: "short", day: "numeric" },
  short: { year: "2-digit", month: "numeric", day: "numeric" },
};
const TIME_STYLES = {
  full: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "long" },
  long: { hour: "numeric", minute: "2-digit", second: "2-digit", timeZoneName: "short" },
  medium: { hour: "numeric", minute: "2-digit", second: "2-digit" },
  short: { hour: "numeric", minute: "2-digit" },
};
const DATE_FIELDS = ["weekday", "year", "month", "day"];
const TIME_FIELDS = ["hour", "minute", "second", "fractionalSecondDigits"];

/** Reads and checks the options. `defaults` are the fields if no field is requested: "date", "time" or "all". */
function resolve(options, required, defaults) {
  refuseOptions(options, ["era", "dayPeriod"]);
  const zone = options?.timeZone === undefined ? "UTC" : `${options.timeZone}`;
  if (!UTC_NAMES.includes(zone.toLowerCase())) {
    throw new RangeError(`Intl.DateTimeFormat: the time zone ${zone} is not available in a handler; available is UTC`);
  }
  option(options, "calendar", ["gregory", "iso8601"]);
  option(options, "numberingSystem", ["latn"]);
  const requested = {
    weekday: option(options, "weekday", TEXTS),
    year: option(options, "year", DIGITS),
    month: option(options, "month", [...DIGITS, ...TEXTS]),
    day: option(options, "day", DIGITS),
    hour: option(options, "hour", DIGITS),
    minute: option(options, "minute", DIGITS),
    second: option(options, "second", DIGITS),
    fractionalSecondDigits: numberOption(options, "fractionalSecondDigits", 1, 3),
    timeZoneName: option(options, "timeZoneName", Object.keys(ZONE_NAMES)),
  };
  const dateStyle = option(options, "dateStyle", STYLES);
  const timeStyle = option(options, "timeStyle", STYLES);
  let fields = Object.fromEntries(Object.entries(requested).filter(([, value]) => value !== undefined));
  if (dateStyle || timeStyle) {
    const [extra] = Object.keys(fields);
    if (extra) throw new TypeError(`Intl.DateTimeFormat: the option ${extra} cannot be combined with dateStyle or timeStyle`);
    if (required === "date" && timeStyle) throw new TypeError("Intl.DateTimeFormat: timeStyle is not available for a date");
    if (required === "time" && dateStyle) throw new TypeError("Intl.DateTimeFormat: dateStyle is not available for a time");
    fields = { ...DATE_STYLES[dateStyle], ...TIME_STYLES[timeStyle] };
  } else {
    const counted = required === "date" ? DATE_FIELDS : required === "time" ? TIME_FIELDS : [...DATE_FIELDS, ...TIME_FIELDS];
    if (!counted.some((name) => name in fields)) {
      if (defaults !== "time") Object.assign(fields, { year: "numeric", month: "numeric", day: "numeric" });
      if (defaults !== "date") Object.assign(fields, { hour: "numeric", minute: "2-digit", second: "2-digit" });
    }
  }
  checkTogether(fields);
  return { fields, dateStyle, timeStyle, timeZone: /^utc$|^gmt$|\//i.test(zone) ? "UTC" : zone, hourCycle: hourCycle(options, fields) };
}

/** Refuses fields of a date that are not written together in English, such as a year and a day without a month. */
function checkTogether({ weekday, year, month, day }) {
  if ((year && day && !month) || (weekday && (year || month) && !(month && day))) {
    const names = Object.entries({ weekday, year, month, day }).filter(([, value]) => value).map(([name]) => name);
    throw new RangeError(`Intl.DateTimeFormat: ${names.join(" and ")} are not available together without the rest of the date`);
  }
}

function hourCycle(options, fields) {
  const cycle = option(options, "hourCycle", ["h11", "h12", "h23", "h24"]);
  if (!("hour" in fields)) return undefined;
  const { hour12 } = options ?? {};
  if (hour12 !== undefined) return hour12 ? "h12" : "h23";
  return cycle ?? "h12";
}

export class DateTimeFormat {
  #fields;
  #dateStyle;
  #timeStyle;
  #timeZone;
  #hourCycle;

  constructor(locales = undefined, options = undefined, required = "any", defaults = "date") {
    resolveLocale(locales);
    const resolved = resolve(options, required, defaults);
    this.#fields = resolved.fields;
    this.#dateStyle = resolved.dateStyle;
    this.#timeStyle = resolved.timeStyle;
    this.#timeZone = resolved.timeZone;
    this.#hourCycle = resolved.hourCycle;
  }

  get format() {
    return (date = undefined) => join(this.formatToParts(date));
  }

  formatToParts(date = undefined) {
    const time = date === undefined ? Date.now() : Number(date);
    if (!(Math.abs(time) <= 8.64e15)) throw new RangeError("Intl.DateTimeFormat: the date is not valid");
    const values = new Date(time);
    const fields = this.#fields;
    const dateParts = formatDate(values, fields);
    const timeParts = formatTime(values, fields, this.#hourCycle);
    const parts = [...dateParts];
    if (dateParts.length > 0 && timeParts.length > 0) parts.push(literal(this.#separator()));
    parts.push(...timeParts);
    if (fields.timeZoneName) {
      if (parts.length > 0) parts.push(literal(timeParts.length > 0 ? " " : ", "));
      parts.push({ type: "timeZoneName", value: ZONE_NAMES[fields.timeZoneName] });
    }
    return parts;
  }

  #separator() {
    const { weekday, month, day } = this.#fields;
    if (this.#dateStyle === "full" || this.#dateStyle === "long" || (!this.#dateStyle && month === "long")) return " at ";
    return weekday && !month && !day && !this.#fields.year ? " " : ", ";
  }

  formatRange(from, to) {
    return join(this.formatRangeToParts(from, to));
  }

  formatRangeToParts(from, to) {
    const start = this.formatToParts(from);
    const end = this.formatToParts(to);
    if (join(start) === join(end)) return start.map((part) => ({ ...part, source: "shared" }));
    return [...start.map((part) => ({ ...part, source: "startRange" })), { ...literal(" – "), source: "shared" },
      ...end.map((part) => ({ ...part, source: "endRange" }))];
  }

  resolvedOptions() {
    const cycle = this.#hourCycle;
    const styles = { dateStyle: this.#dateStyle, timeStyle: this.#timeStyle };
    const result = {
      locale: LOCALE, calendar: "gregory", numberingSystem: "latn", timeZone: this.#timeZone,
      hourCycle: cycle, hour12: cycle && (cycle === "h12" || cycle === "h11"),
      ...(styles.dateStyle || styles.timeStyle ? styles : this.#fields),
    };
    return Object.fromEntries(Object.entries(result).filter(([, value]) => value !== undefined));
  }
}
finish(DateTimeFormat, "DateTimeFormat");

function formatDate(values, fields) {
  const { weekday, year, month, day } = fields;
  const isText = TEXTS.includes(month);
  const parts = [];
  if (month) parts.push({ type: "month", value: isText ? text(MONTHS[values.getUTCMonth()], month) : digits(values.getUTCMonth() + 1, month) });
  if (day) {
    if (parts.length > 0) parts.push(literal(isText ? " " : "/"));
    parts.push({ type: "day", value: digits(values.getUTCDate(), day) });
  }
  if (year) {
    if (parts.length > 0) parts.push(literal(!isText ? "/" : day ? ", " : " "));
    parts.push({ type: "year", value: yearDigits(values.getUTCFullYear(), year) });
  }
  if (!weekday) return parts;
  const name = { type: "weekday", value: text(WEEKDAYS[values.getUTCDay()], weekday) };
  if (parts.length === 0) return [name];
  // The day of the week is before a date, and after the day alone.
  return month ? [name, literal(", "), ...parts] : [...parts, literal(" "), name];
}

function formatTime(values, fields, cycle) {
  const { hour, minute, second, fractionalSecondDigits: fraction } = fields;
  const parts = [];
  const add = (type, value, separator) => {
    if (parts.length > 0) parts.push(literal(separator));
    parts.push({ type, value });
  };
  if (hour) add("hour", hourDigits(values.getUTCHours(), hour, cycle), "");
  if (minute) add("minute", digits(values.getUTCMinutes(), hour || second ? "2-digit" : "numeric"), ":");
  if (second) add("second", digits(values.getUTCSeconds(), minute ? "2-digit" : "numeric"), ":");
  if (fraction) add("fractionalSecond", `${values.getUTCMilliseconds()}`.padStart(3, "0").slice(0, fraction), ".");
  if (hour && (cycle === "h12" || cycle === "h11")) add("dayPeriod", values.getUTCHours() < 12 ? "AM" : "PM", " ");
  return parts;
}

function hourDigits(hours, form, cycle) {
  if (cycle === "h23") return digits(hours, "2-digit");
  if (cycle === "h24") return digits(hours || 24, "2-digit");
  return digits(cycle === "h11" ? hours % 12 : hours % 12 || 12, form);
}

function digits(number, form) {
  return form === "2-digit" ? `${number}`.padStart(2, "0") : `${number}`;
}

function yearDigits(year, form) {
  // There is no era in the result, so that a year before the first one is written as its number before Christ.
  const positive = year > 0 ? year : 1 - year;
  return form === "2-digit" ? `${positive % 100}`.padStart(2, "0") : `${positive}`;
}

function text(name, form) {
  return form === "long" ? name : form === "short" ? name.slice(0, 3) : name[0];
}

function literal(value) {
  return { type: "literal", value };
}

function join(parts) {
  return parts.map((part) => part.value).join("");
}
