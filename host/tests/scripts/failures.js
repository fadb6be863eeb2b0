// Ways in which an event ends with a failure. The first argument of each description is what the log says.
import { routes } from "jackfield";

function deep(n) {
  return deep(n + 1) + 1;
}

export default routes({
  thrown: () => {
    throw new RangeError("thrown at once");
  },
  rejected: async () => {
    await null;
    throw new Error("outer", { cause: new TypeError("inner") });
  },
  value: () => {
    throw { code: 7 };
  },
  text: () => {
    throw "no room";
  },
  unhandled: async () => {
    Promise.reject(new SyntaxError("nobody waits"));
    return "not sent";
  },
  timer: async () => {
    setTimeout(() => {
      throw new Error("in a timer");
    }, 1);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  },
  never: () => new Promise(() => {}),
  uncaught: () => deep(0),
  misspelled: (event) => event.txt(),
  loop: () => {
    for (;;);
  },
  surrogate: () => {
    throw new Error("half \ud800 a pair");
  },
  // These do not fail.
  handled: async () => {
    const promise = Promise.reject(new Error("handled"));
    await null;
    promise.catch(() => {});
    return "fine";
  },
  dropped: async () => {
    setTimeout(() => console.log("this timer ran"), 3_600_000);
    return "quick";
  },
  recursion: () => {
    try {
      deep(0);
    } catch (error) {
      return `${error.name} after ${deep.name}`;
    }
  },
  json: (event) => {
    const nested = (levels) => "[".repeat(levels) + "]".repeat(levels);
    JSON.stringify(JSON.parse(nested(2500)));
    try {
      JSON.parse(nested(100_000));
    } catch (error) {
      return error.name;
    }
  },
  half: () => "half \ud800 a pair",
  hog: () => {
    for (const kept = []; ; ) kept.push(new Array(100_000).fill(1));
  },
  memory: () => {
    try {
      const kept = [];
      for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
    } catch (error) {
      return error.message;
    }
  },
});
