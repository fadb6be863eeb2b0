//! The worlds of the contract: what a component is there for.

/// What is asked of a component, by the one function that its world exports.
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

    /// The interface that a component of it exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::RouteHandler => "jackfield:gateway/handler@0.1.0",
            Self::RequestAuthorizer => "jackfield:gateway/authorizer@0.1.0",
        }
    }

    /// The function of that interface.
    pub fn function(self) -> &'static str {
        match self {
            Self::RouteHandler => "handle",
            Self::RequestAuthorizer => "authorize",
        }
    }

    /// Whether a component with these exports is of it.
    pub fn is_of(self, exports: &[String]) -> bool {
        exports.iter().any(|export| export == self.interface())
    }

    /// Where a manifest has a component of it under this name.
    pub fn section(self, name: &str) -> String {
        match self {
            Self::RouteHandler => format!("[integrations.{name}]"),
            Self::RequestAuthorizer => format!("[authorizers.{name}]"),
        }
    }
}
