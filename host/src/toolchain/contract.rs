//! The contract that this program was built with, and the worlds that the SDKs implement.

use anyhow::Context as _;
use wit_parser::{Resolve, WorldId};

use crate::world::World;

/// The files of the contract, in the order in which they need each other.
const FILES: &[(&str, &str)] = &[
    ("deps/wasi-config/config.wit", include_str!("../../../wit/deps/wasi-config/config.wit")),
    (
        "deps/wasi-keyvalue-0.2.0-draft/keyvalue.wit",
        include_str!("../../../wit/deps/wasi-keyvalue-0.2.0-draft/keyvalue.wit"),
    ),
    (
        "deps/wasi-keyvalue-0.2.0-draft2/keyvalue.wit",
        include_str!("../../../wit/deps/wasi-keyvalue-0.2.0-draft2/keyvalue.wit"),
    ),
    ("deps/wasi-logging/logging.wit", include_str!("../../../wit/deps/wasi-logging/logging.wit")),
    ("gateway.wit", include_str!("../../../wit/gateway.wit")),
];

/// The package with the worlds of the SDKs: everything that a handler can import without a grant, and the interfaces
/// whose calls return an error without one. A component imports only the functions that it calls.
const SDK: &str = "
package jackfield:sdk;

world imports {
    include jackfield:gateway/imports@0.1.0;
    import wasi:keyvalue/store@0.2.0-draft2;
    import wasi:keyvalue/atomics@0.2.0-draft2;
    import wasi:keyvalue/batch@0.2.0-draft2;
    import wasi:config/store@0.2.0-rc.1;
    import wasi:logging/logging@0.1.0-draft;
}

world plugin {
    include imports;
    export jackfield:gateway/handler@0.1.0;
}

world authorizer {
    include imports;
    export jackfield:gateway/authorizer@0.1.0;
}
";

/// Returns the contract, and the world that a component of this kind implements with an SDK.
pub fn resolve(world: World) -> anyhow::Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    for (path, text) in FILES {
        resolve.push_source(path, text).context("cannot read the contract")?;
    }
    let package = resolve.push_source("sdk.wit", SDK).context("cannot read the worlds of the SDKs")?;
    let name = match world {
        World::RouteHandler => "plugin",
        World::RequestAuthorizer => "authorizer",
    };
    let world = resolve.select_world(&[package], Some(name)).context("cannot find the world")?;
    Ok((resolve, world))
}
