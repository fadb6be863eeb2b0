import assert from "node:assert";
import dayjs from "dayjs";
import "dayjs/locale/de.js";
import advancedFormat from "dayjs/plugin/advancedFormat.js";
import customParseFormat from "dayjs/plugin/customParseFormat.js";
import duration from "dayjs/plugin/duration.js";
import isBetween from "dayjs/plugin/isBetween.js";
import relativeTime from "dayjs/plugin/relativeTime.js";
import timezone from "dayjs/plugin/timezone.js";
import utc from "dayjs/plugin/utc.js";

for (const plugin of [advancedFormat, customParseFormat, duration, isBetween, relativeTime, timezone, utc]) dayjs.extend(plugin);

export async function handler() {
  const time = dayjs.utc("2024-02-09T22:58:23.420Z");
  assert.strictEqual(time.format("YYYY-MM-DD HH:mm:ss.SSS Z dddd, MMMM D"), "2024-02-09 22:58:23.420 +00:00 Friday, February 9");
  assert.strictEqual(time.format("Do Q x"), "9th 1 1707519503420");
  assert.strictEqual(time.locale("de").format("dddd, D. MMMM"), "Freitag, 9. Februar");
  // A handler's own zone is UTC.
  assert.strictEqual(dayjs("2024-02-09T22:58:23.420Z").format(), "2024-02-09T22:58:23+00:00");
  assert.strictEqual(time.add(1, "month").endOf("month").toISOString(), "2024-03-31T23:59:59.999Z");
  assert.strictEqual(time.utcOffset(120).format("HH:mm Z"), "00:58 +02:00");
  assert.strictEqual(dayjs.utc("31.12.2023", "DD.MM.YYYY").diff(time, "day"), -40);
  assert.strictEqual(dayjs("31.02.2023", "DD.MM.YYYY", true).isValid(), false);
  assert.strictEqual(time.from(time.add(3, "hour")), "3 hours ago");
  assert.strictEqual(dayjs.duration(90, "minutes").format("H:mm"), "1:30");
  assert.ok(time.isBetween("2024-02-09", "2024-02-10"));
  assert.strictEqual(dayjs.tz("2024-02-09 22:58", "UTC").toISOString(), "2024-02-09T22:58:00.000Z");
  assert.throws(() => time.tz("Europe/Berlin"), { name: "RangeError", message: /Europe\/Berlin/ });
  assert.ok(Math.abs(dayjs().valueOf() - Date.now()) < 1000);
  return { statusCode: 200, body: "dayjs works" };
}
