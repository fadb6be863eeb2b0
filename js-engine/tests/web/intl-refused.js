test("other locales and time zones are refused by name", () => {
  assert.throws(() => new Intl.NumberFormat("de-DE"), "RangeError", "de-DE");
  assert.throws(() => new Date(0).toLocaleString("fr"), "RangeError", "fr");
  assert.throws(() => new Intl.DateTimeFormat("en-US", { timeZone: "Europe/Berlin" }), "RangeError", "Europe/Berlin");
  assert.throws(() => new Date(0).toLocaleDateString(undefined, { timeZone: "America/New_York" }), "RangeError", "America/New_York");
  assert.throws(() => "a".localeCompare("b", "sv"), "RangeError", "sv");
  assert.equal(new Intl.NumberFormat(["de-DE", "en-US"]).format(1.5), "1.5");
  assert.deepEqual(Intl.NumberFormat.supportedLocalesOf(["de", "en-US"]), ["en-US"]);
});

test("classes and options of Intl that are not there are refused by name", () => {
  assert.throws(() => new Intl.Segmenter("en-US"), "Error", "Intl.Segmenter");
  assert.throws(() => new Intl.DisplayNames("en-US", { type: "region" }), "Error", "Intl.DisplayNames");
  assert.throws(() => new Intl.NumberFormat("en-US", { style: "unit", unit: "liter" }), "RangeError", "unit");
  assert.throws(() => new Intl.NumberFormat("en-US", { notation: "scientific" }), "RangeError", "notation");
  assert.throws(() => new Intl.DateTimeFormat("en-US", { era: "short" }), "RangeError", "era");
  assert.throws(() => new Intl.DateTimeFormat("en-US", { calendar: "chinese" }), "RangeError", "calendar");
});

test("fields of a date that are not written together are refused by name", () => {
  assert.throws(() => new Intl.DateTimeFormat("en-US", { year: "numeric", day: "numeric" }), "RangeError", "year and day");
  assert.throws(() => new Intl.DateTimeFormat("en-US", { weekday: "short", month: "long" }), "RangeError", "weekday and month");
});

test("the default locale is en-US and the default time zone UTC", () => {
  const { locale, timeZone } = new Intl.DateTimeFormat().resolvedOptions();
  assert.equal(locale, "en-US");
  assert.equal(timeZone, "UTC");
  assert.equal((1e6).toLocaleString(), "1,000,000");
});
