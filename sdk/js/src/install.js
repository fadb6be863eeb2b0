// Gives the source of the engine the functions of the test double, where it expects those of the engine in Rust. This has
// to be evaluated before any file of `engine/`.

import { native } from "./testing/native.js";

globalThis.__native = native;
