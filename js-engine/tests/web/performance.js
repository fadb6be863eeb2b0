test("performance.now goes on and never back", async () => {
  const first = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 3));
  const second = performance.now();
  assert.ok(second - first >= 2, `${second} - ${first}`);
  assert.ok(Math.abs(performance.timeOrigin + performance.now() - Date.now()) < 1000);
});

test("performance.mark and measure", () => {
  performance.mark("a", { startTime: 5, detail: { x: 1 } });
  performance.mark("b", { startTime: 8 });
  const measure = performance.measure("m", "a", "b");
  assert.equal(measure.startTime, 5);
  assert.equal(measure.duration, 3);
  assert.equal(performance.getEntriesByName("a")[0].detail.x, 1);
  assert.deepEqual(performance.getEntriesByType("mark").map((entry) => entry.name), ["a", "b"]);
  performance.clearMarks();
  performance.clearMeasures();
  assert.equal(performance.getEntries().filter((entry) => entry.entryType === "mark").length, 0);
  assert.throws(() => performance.measure("x", "none"), "SyntaxError");
});
