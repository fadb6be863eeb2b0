// What loading a file reports besides its exports.

const collected = [];

/** Adds a sentence to the warnings of the file that is loaded. */
export function warn(sentence) {
  if (!collected.includes(sentence)) collected.push(sentence);
}

export function warnings() {
  return collected.splice(0);
}
