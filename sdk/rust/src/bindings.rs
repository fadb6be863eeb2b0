//! The Rust bindings of the contract, generated from the project's `wit` folder.
//!
//! The generated records are the SDK's public types; `event.rs` and `response.rs` add methods to them. Functions,
//! resources and errors are used only through `host.rs`.
#![allow(missing_docs)]
// On other targets the test double replaces most of these functions.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]
// The generated code implements the canonical ABI.
#![allow(unsafe_code)]

wit_bindgen::generate!({
    path: "wit",
    // An interface whose functions a handler never calls is not imported by its component.
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
    // `cas-error` contains a resource, which cannot be cloned or compared.
    additional_derives_ignore: ["cas-error"],
    pub_export_macro: true,
    export_macro_name: "export_handler",
    default_bindings_module: "jackfield_sdk::bindings",
});

/// The bindings of the world of authorizers. A component has one of the two worlds, so each has its own export macro.
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
