//! Authorizers: components that decide before `$connect` whether a peer is admitted.

pub use crate::bindings::authorizer::exports::jackfield::gateway::authorizer::{Decision, Grant};
use crate::{ConnectEvent, RequestContext, Result};

/// Decides whether a peer is admitted. It runs before `$connect` if that route names it as its `authorizer`.
///
/// ```
/// use jackfield_sdk::prelude::*;
///
/// struct PasswordAuthorizer;
///
/// impl Authorizer for PasswordAuthorizer {
///     fn authorize(_: &RequestContext, request: ConnectEvent) -> Result<Decision> {
///         Ok(match request.query("password") {
///             Some("open sesame") => Decision::allow("ali").with("room", "cave"),
///             Some(_) => Decision::Deny,
///             None => Decision::Unauthorized,
///         })
///     }
/// }
///
/// export_authorizer!(PasswordAuthorizer);
/// ```
///
/// The values of its grant are in [`ConnectionContext::authorizer`](crate::ConnectionContext::authorizer) during every
/// later event of the connection, the principal as `principalId`. A grant has at most 8 KiB.
pub trait Authorizer {
    /// Decides about an upgrade request.
    ///
    /// # Errors
    /// An `Err` rejects the peer with 500, and the host logs its text.
    fn authorize(context: &RequestContext, request: ConnectEvent) -> Result<Decision>;
}

impl Decision {
    /// Admits the peer as the principal `principal_id`.
    pub fn allow(principal_id: impl Into<String>) -> Self {
        Decision::Allow(Grant { principal_id: principal_id.into(), context: Vec::new() })
    }

    /// Adds a value for later events to the grant. A decision that does not admit the peer is returned unchanged.
    ///
    /// The value `usageIdentifierKey` is the peer's API key, if the manifest takes API keys from authorizers
    /// (`api_key_selection_expression`).
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Decision::Allow(grant) = &mut self {
            grant.context.push((name.into(), value.into()));
        }
        self
    }
}

/// Exports an [`Authorizer`] from the component. A crate calls it once, in any module, and does not export a plugin as
/// well.
///
/// On other targets than WebAssembly it does nothing, so that tests and tools can use the type.
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
                ) -> ::std::result::Result<$crate::Decision, $crate::__private::Failure> {
                    <$authorizer as $crate::Authorizer>::authorize(&context, request)
                        .map_err($crate::__private::failure)
                }
            }

            $crate::bindings::authorizer::export_authorizer_component!(
                Component with_types_in $crate::bindings::authorizer
            );
        };
    };
}
