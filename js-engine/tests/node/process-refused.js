test("process.exit and its kind are refused by name", () => {
  for (const name of ["exit", "abort", "kill", "chdir"]) {
    assert.throws(() => process[name](0), "Error", `process.${name} is not available`, "handler");
  }
});
