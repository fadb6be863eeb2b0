//! The worlds of the contract: which kind of component the host can load.

/// A kind of component. Each world exports exactly one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum World {
    #[default]
    RouteHandler,
    RequestAuthorizer,
}

impl World {
    pub const ALL: [Self; 2] = [Self::RouteHandler, Self::RequestAuthorizer];

    pub fn name(self) -> &'static str {
        match self {
            Self::RouteHandler => "jackfield:gateway/route-handler",
            Self::RequestAuthorizer => "jackfield:gateway/request-authorizer",
        }
    }

    /// Returns the interface that a component of this world exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::RouteHandler => "jackfield:gateway/handler@0.1.0",
            Self::RequestAuthorizer => "jackfield:gateway/authorizer@0.1.0",
        }
    }

    /// Returns the function of that interface.
    pub fn function(self) -> &'static str {
        match self {
            Self::RouteHandler => "handle",
            Self::RequestAuthorizer => "authorize",
        }
    }

    /// Returns whether a component with these exports belongs to this world.
    pub fn is_implemented_by(self, exports: &[String]) -> bool {
        exports.iter().any(|export| export == self.interface())
    }

    /// Returns the section of the manifest that declares the component `name` of this world.
    pub fn section(self, name: &str) -> String {
        match self {
            Self::RouteHandler => format!("[integrations.{name}]"),
            Self::RequestAuthorizer => format!("[authorizers.{name}]"),
        }
    }
}
