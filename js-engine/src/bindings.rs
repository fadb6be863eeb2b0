//! The generated bindings of the world `javascript` in wit/engine.wit.

wit_bindgen::generate!({
    path: ["../wit", "wit"],
    world: "jackfield:script/javascript",
    generate_all,
    pub_export_macro: true,
});
