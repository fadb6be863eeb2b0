// Node's built-in modules, Buffer and process.
