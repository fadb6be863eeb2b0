//! What the contract looks like in Rust, generated from the project's `wit` folder.
//!
//! The records are used as they are: they are the SDK's own types, with methods added in `event.rs`
//! and `response.rs`. Functions, resources and errors are reached through `host.rs` alone.
#![allow(missing_docs)]
// On other targets the double stands in for most of it.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]
// The generated code speaks the canonical ABI; nothing else here does.
#![allow(unsafe_code)]

wit_bindgen::generate!({
    path: "wit",
    // An interface that a handler never calls does not end up in its component.
    inline: "
        package jackfield:sdk;

        world plugin {
            include jackfield:gateway/route-handler@0.1.0;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:keyvalue/batch@0.2.0-draft2;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:logging/logging@0.1.0-draft;
        }
    ",
    world: "jackfield:sdk/plugin",
    generate_all,
    additional_derives: [Clone, PartialEq, Eq],
    // It holds a resource, which cannot be cloned or compared.
    additional_derives_ignore: ["cas-error"],
    pub_export_macro: true,
    export_macro_name: "export_handler",
    default_bindings_module: "jackfield_sdk::bindings",
});

/// The same for authorizers. A component has one of the two worlds, so each has a macro of its own.
pub mod authorizer {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package jackfield:sdk-authorizer;

            world authorizer {
                export jackfield:gateway/authorizer@0.1.0;
            }
        ",
        world: "jackfield:sdk-authorizer/authorizer",
        with: { "jackfield:gateway/types@0.1.0": crate::bindings::jackfield::gateway::types },
        additional_derives: [Clone, PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_authorizer_component",
        default_bindings_module: "jackfield_sdk::bindings::authorizer",
    });
}
