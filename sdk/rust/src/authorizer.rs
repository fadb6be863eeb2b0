//! An authorizer: who is let in, before any handler runs.

pub use crate::bindings::authorizer::exports::jackfield::gateway::authorizer::{Decision, Grant};
use crate::{ConnectEvent, RequestContext, Result};

/// Decides who is let in. It runs before `$connect` of a route that names it as its `authorizer`.
///
/// ```
/// use jackfield_sdk::prelude::*;
///
/// struct Door;
///
/// impl Authorizer for Door {
///     fn authorize(_: &RequestContext, request: ConnectEvent) -> Result<Decision> {
///         Ok(match request.query("password") {
///             Some("open sesame") => Decision::allow("ali").with("room", "cave"),
///             Some(_) => Decision::Deny,
///             None => Decision::Unauthorized,
///         })
///     }
/// }
///
/// export_authorizer!(Door);
/// ```
///
/// What it puts into its grant is in [`ConnectionContext::authorizer`](crate::ConnectionContext::authorizer) of every
/// later event, the principal as `principalId`. A grant has 8 KiB at most.
pub trait Authorizer {
    /// Looks at an upgrade request.
    ///
    /// # Errors
    /// An `Err` refuses the peer with 500, and the host logs its text.
    fn authorize(context: &RequestContext, request: ConnectEvent) -> Result<Decision>;
}

impl Decision {
    /// Lets the peer in, under that name.
    pub fn allow(principal_id: impl Into<String>) -> Self {
        Decision::Allow(Grant { principal_id: principal_id.into(), context: Vec::new() })
    }

    /// The same with one value more for later events; what lets nobody in stays as it is.
    ///
    /// `usageIdentifierKey` names the API key that the peer is counted under, where the manifest says that authorizers
    /// name it.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Decision::Allow(grant) = &mut self {
            grant.context.push((name.into(), value.into()));
        }
        self
    }
}

/// Makes an [`Authorizer`] of the component. Once in a crate, in its root or below, and not beside a plugin.
///
/// On targets other than WebAssembly it does nothing, so that tests and tools can use the type.
#[macro_export]
macro_rules! export_authorizer {
    ($authorizer:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::bindings::authorizer::exports::jackfield::gateway::authorizer::Guest for Component {
                fn authorize(
                    context: $crate::RequestContext,
                    request: $crate::ConnectEvent,
                ) -> ::std::result::Result<$crate::Decision, ::std::string::String> {
                    <$authorizer as $crate::Authorizer>::authorize(&context, request)
                        .map_err(|error| ::std::string::ToString::to_string(&error))
                }
            }

            $crate::bindings::authorizer::export_authorizer_component!(
                Component with_types_in $crate::bindings::authorizer
            );
        };
    };
}
