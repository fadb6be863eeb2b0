const date = new Date(Date.UTC(2024, 0, 31, 15, 4, 5, 67));
const format = (options) => new Intl.DateTimeFormat("en-US", { timeZone: "UTC", ...options }).format(date);

test("dates are formatted as in the United States", () => {
  assert.equal(date.toLocaleString("en-US", { timeZone: "UTC" }), "1/31/2024, 3:04:05 PM");
  assert.equal(date.toLocaleDateString("en-US", { timeZone: "UTC" }), "1/31/2024");
  assert.equal(date.toLocaleTimeString("en-US", { timeZone: "UTC" }), "3:04:05 PM");
  assert.equal(date.toLocaleDateString("en-US", { weekday: "long", month: "long", day: "numeric", timeZone: "UTC" }), "Wednesday, January 31");
  assert.equal(date.toLocaleTimeString("en-US", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" }), "03:04 PM");
  assert.equal(new Date(NaN).toLocaleString(), "Invalid Date");
  assert.throws(() => new Intl.DateTimeFormat().format(NaN), "RangeError");
});

test("styles of dates and times", () => {
  assert.equal(format({ dateStyle: "full", timeStyle: "short" }), "Wednesday, January 31, 2024 at 3:04 PM");
  assert.equal(format({ dateStyle: "long" }), "January 31, 2024");
  assert.equal(format({ dateStyle: "medium", timeStyle: "medium" }), "Jan 31, 2024, 3:04:05 PM");
  assert.equal(format({ dateStyle: "short", timeStyle: "long" }), "1/31/24, 3:04:05 PM UTC");
  assert.equal(format({ timeStyle: "full" }), "3:04:05 PM Coordinated Universal Time");
  assert.throws(() => format({ dateStyle: "short", hour: "numeric" }), "TypeError");
});

test("fields of dates and times", () => {
  const expected = [
    [{}, "1/31/2024"], [{ month: "short", day: "numeric" }, "Jan 31"], [{ year: "numeric", month: "long" }, "January 2024"],
    [{ year: "numeric", month: "2-digit", day: "2-digit" }, "01/31/2024"], [{ weekday: "short" }, "Wed"],
    [{ weekday: "short", year: "numeric", month: "short", day: "numeric" }, "Wed, Jan 31, 2024"],
    [{ hour: "numeric" }, "3 PM"], [{ hour: "numeric", hour12: false }, "15"], [{ minute: "2-digit", second: "2-digit" }, "04:05"],
    [{ hour: "numeric", minute: "2-digit", hourCycle: "h23" }, "15:04"], [{ timeZoneName: "short" }, "1/31/2024, UTC"],
    [{ hour: "numeric", minute: "numeric", second: "numeric", fractionalSecondDigits: 3 }, "3:04:05.067 PM"],
    [{ month: "long", day: "numeric", hour: "numeric" }, "January 31 at 3 PM"], [{ weekday: "short", hour: "numeric" }, "Wed 3 PM"],
    [{ year: "2-digit", month: "2-digit", day: "2-digit" }, "01/31/24"], [{ month: "narrow" }, "J"], [{ weekday: "short", day: "numeric" }, "31 Wed"],
  ];
  for (const [options, text] of expected) assert.equal(format(options), text);
  const parts = new Intl.DateTimeFormat("en-US", { timeZone: "UTC", month: "long", day: "numeric" }).formatToParts(date);
  assert.deepEqual(parts, [{ type: "month", value: "January" }, { type: "literal", value: " " }, { type: "day", value: "31" }]);
});

test("the time zone of Intl is UTC", () => {
  assert.equal(Intl.DateTimeFormat("en-US", { timeZone: "UTC" }).resolvedOptions().timeZone, "UTC");
  assert.equal(Intl.DateTimeFormat("en-US", { timeZone: "Etc/UTC" }).format(date), "1/31/2024");
});

test("numbers are formatted as in the United States", () => {
  const expected = [
    [1234567.891, {}, "1,234,567.891"], [0.5, { style: "percent" }, "50%"], [1234.5, { style: "currency", currency: "USD" }, "$1,234.50"],
    [-1234.5, { style: "currency", currency: "EUR" }, "-€1,234.50"], [1234.5, { style: "currency", currency: "JPY" }, "¥1,235"],
    [5, { style: "currency", currency: "CHF" }, "CHF\u00a05.00"], [5, { style: "currency", currency: "USD", currencyDisplay: "code" }, "USD\u00a05.00"],
    [-5, { style: "currency", currency: "USD", currencySign: "accounting" }, "($5.00)"], [1234567, { notation: "compact" }, "1.2M"],
    [999999, { notation: "compact" }, "1M"], [15500, { notation: "compact" }, "16K"], [1234567, { notation: "compact", compactDisplay: "long" }, "1.2 million"],
    [1e15, { notation: "compact" }, "1000T"], [999, { notation: "compact" }, "999"], [0, { notation: "compact" }, "0"],
    [0.256, { notation: "compact" }, "0.26"], [12345, { notation: "compact", maximumFractionDigits: 2 }, "12.35K"],
    [1.005, { maximumFractionDigits: 2 }, "1.01"], [123456, { maximumSignificantDigits: 2 }, "120,000"], [1e21, {}, "1,000,000,000,000,000,000,000"],
    [NaN, {}, "NaN"], [-Infinity, {}, "-∞"], [-0, {}, "-0"], [5, { minimumIntegerDigits: 2 }, "05"], [1234, { useGrouping: false }, "1234"],
    [5, { signDisplay: "always" }, "+5"], [0, { signDisplay: "exceptZero" }, "0"], [0.000001234, {}, "0"], [1234.5678, { minimumFractionDigits: 2 }, "1,234.568"],
    [12n ** 20n, {}, "3,833,759,992,447,475,122,176"], [2.5, { maximumFractionDigits: 0 }, "3"], [-2.5, { maximumFractionDigits: 0 }, "-3"],
    [0.1234, { style: "percent", maximumFractionDigits: 1 }, "12.3%"], [5, { style: "currency", currency: "USD", minimumFractionDigits: 0 }, "$5"],
    [5, { style: "currency", currency: "USD", trailingZeroDisplay: "stripIfInteger" }, "$5"], [0.1, { minimumSignificantDigits: 3 }, "0.100"],
    [1e-7, { maximumSignificantDigits: 1 }, "0.0000001"], [99.995, { maximumFractionDigits: 2 }, "100"],
  ];
  for (const [value, options, text] of expected) {
    const found = new Intl.NumberFormat("en-US", options).format(value);
    if (found !== text) throw new Error(`${String(value)} ${JSON.stringify(options)}: expected ${text}, found ${found}`);
  }
  assert.equal((1234.5).toLocaleString("en-US"), "1,234.5");
  assert.equal(10000n.toLocaleString("en-US"), "10,000");
  assert.equal((5).toLocaleString("en-US", { style: "currency", currency: "GBP" }), "£5.00");
});

test("parts of numbers", () => {
  const parts = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" }).formatToParts(-1234.5);
  assert.deepEqual(parts.map((part) => part.type), ["minusSign", "currency", "integer", "group", "integer", "decimal", "fraction"]);
});

test("plurals, lists and relative times in English", () => {
  const ordinal = new Intl.PluralRules("en-US", { type: "ordinal" });
  assert.deepEqual([1, 2, 3, 4, 11, 12, 13, 21, 22, 103, 111].map((value) => ordinal.select(value)),
    ["one", "two", "few", "other", "other", "other", "other", "one", "two", "few", "other"]);
  assert.deepEqual([0, 1, 2, 1.5].map((value) => new Intl.PluralRules("en-US").select(value)), ["other", "one", "other", "other"]);
  assert.equal(new Intl.ListFormat("en-US").format(["a", "b", "c"]), "a, b, and c");
  assert.equal(new Intl.ListFormat("en-US", { type: "disjunction" }).format(["a", "b"]), "a or b");
  assert.equal(new Intl.ListFormat("en-US", { type: "unit", style: "narrow" }).format(["a", "b"]), "a b");
  assert.equal(new Intl.ListFormat("en-US").format([]), "");
  const relative = new Intl.RelativeTimeFormat("en-US", { numeric: "auto" });
  assert.deepEqual([relative.format(-1, "day"), relative.format(1, "day"), relative.format(-3, "months"), relative.format(0, "year"), relative.format(1, "hour")],
    ["yesterday", "tomorrow", "3 months ago", "this year", "in 1 hour"]);
  assert.equal(new Intl.RelativeTimeFormat("en-US").format(-1, "day"), "1 day ago");
});

test("texts are sorted as in English", () => {
  const words = ["Zebra", "äpfel", "apple", "Apple", "zebra", "éclair", "_x", "10", "9", "egg"];
  const expected = ["_x", "10", "9", "äpfel", "apple", "Apple", "éclair", "egg", "zebra", "Zebra"];
  assert.deepEqual([...words].sort((a, b) => a.localeCompare(b, "en-US")), expected);
  assert.deepEqual([...words].sort(new Intl.Collator("en-US").compare), expected);
  const numeric = new Intl.Collator("en-US", { numeric: true });
  assert.deepEqual(["a10", "a9", "a1"].sort(numeric.compare), ["a1", "a9", "a10"]);
  assert.equal("a".localeCompare("A", "en-US", { sensitivity: "base" }), 0);
  assert.equal("a".localeCompare("ä", "en-US", { sensitivity: "accent" }) === 0, false);
  assert.equal("a".localeCompare("a"), 0);
});

test("locales are written in their canonical form", () => {
  assert.deepEqual(Intl.getCanonicalLocales(["EN-us", "zh-hant-tw"]), ["en-US", "zh-Hant-TW"]);
  assert.deepEqual(Intl.NumberFormat.supportedLocalesOf("en-US"), ["en-US"]);
  assert.equal(new Intl.Locale("en-latn-us").language, "en");
  assert.throws(() => Intl.getCanonicalLocales("no locale"), "RangeError");
});
