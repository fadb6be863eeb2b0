// The functions of the engine in Rust, one object for each area: see js-engine/src/native.rs. Scripts never see it.

export const native = globalThis.__native;
delete globalThis.__native;
