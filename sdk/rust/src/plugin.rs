//! Plugins, and the macros that connect their callbacks to the contract's `handle`.

use crate::{
    ConnectEvent, DisconnectEvent, Error, Event, FromMessage, IntoResponse, MessageEvent, RequestContext, Response,
    Result,
};

/// A route handler: three callbacks, each with a default.
///
/// The callbacks have no `self`, because each event can run in a fresh sandbox. Data for later events belongs into the
/// [connection store](crate::connection_store) or into a [bucket](crate::kv).
///
/// [`export!`](crate::export) makes the plugin the handler of a component.
pub trait Plugin {
    /// The route keys that the plugin handles; empty if it handles any route. [`routes!`](crate::routes) sets it.
    const ROUTES: &'static [&'static str] = &[];

    /// Decides whether a peer that connects is admitted. By default it is.
    ///
    /// A status from 200 to 299 admits the peer. Nothing can be sent to the peer before that: a post to its connection
    /// from this callback fails with [`Gone`](crate::connections::ConnectionError::Gone).
    ///
    /// # Errors
    /// An `Err` rejects the peer with 502.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        let _ = (context, request);
        Ok(Response::ok())
    }

    /// Handles a message of the peer. By default the message is accepted and no reply is sent.
    ///
    /// The body of the response is sent to the peer if the route has a route response.
    ///
    /// # Errors
    /// If it returns an `Err`, the peer receives the message of an internal error, and the host logs the text of the
    /// error.
    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        let _ = (context, message);
        Ok(Response::ok())
    }

    /// Handles the end of a connection, which is already closed. Its row in the connection store is removed afterwards.
    ///
    /// # Errors
    /// The host logs an `Err`.
    fn on_disconnect(context: &RequestContext, event: DisconnectEvent) -> Result<()> {
        let _ = (context, event);
        Ok(())
    }
}

/// Exports a [`Plugin`] as the handler of the component. A crate calls it once, in any module.
///
/// On other targets than WebAssembly it does nothing, so that tests and tools can use the type.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            impl $crate::bindings::exports::jackfield::gateway::handler::Guest for Component {
                fn handle(
                    context: $crate::RequestContext,
                    event: $crate::Event,
                ) -> ::std::result::Result<$crate::Response, $crate::__private::Failure> {
                    $crate::__private::handle::<$plugin>(&context, event).map_err($crate::__private::failure)
                }
            }

    $crate::bindings::export_handler!(Component with_types_in $crate::bindings);
        };
    };
}

/// Declares a plugin as one function for each route, and exports it.
///
/// ```
/// use jackfield_sdk::prelude::*;
///
/// routes! {
///     /// Sends each message back.
///     pub struct Echo;
///     "$connect" => connect,
///     "echo" => echo,
///     "$default" => unknown_action,
///     "$disconnect" => disconnect,
/// }
///
/// fn connect(_: &RequestContext, request: ConnectEvent) -> Result<Response> {
///     Ok(Response::status(if request.query("user").is_some() { 200 } else { 400 }))
/// }
///
/// fn echo(_: &RequestContext, message: String) -> String {
///     message
/// }
///
/// fn unknown_action(_: &RequestContext, _: Payload) -> &'static str {
///     "unknown action"
/// }
///
/// fn disconnect(context: &RequestContext, _: DisconnectEvent) {
///     log::info(format_args!("{} disconnected", context.connection_id));
/// }
/// ```
///
/// The function of `$connect` takes a [`ConnectEvent`], that of `$disconnect` a [`DisconnectEvent`], and every other
/// one a type that implements [`FromMessage`]. Each returns a type that implements [`IntoResponse`]. If `$connect` or
/// `$disconnect` is not named, it has the default of [`Plugin`]. A message of any other route that is not named is an
/// error of the handler.
#[macro_export]
macro_rules! routes {
    ($(#[$attribute:meta])* $visibility:vis struct $plugin:ident; $($key:tt => $function:expr),+ $(,)?) => {
        $(#[$attribute])*
        $visibility struct $plugin;

        impl $crate::Plugin for $plugin {
            const ROUTES: &'static [&'static str] = &[$($key),+];

            $crate::__connect_route! { $($key => $function,)+ }
            $crate::__message_routes! { [] $($key => $function,)+ }
            $crate::__disconnect_route! { $($key => $function,)+ }
        }

        $crate::export!($plugin);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __connect_route {
    () => {};
    ("$connect" => $function:expr, $($rest:tt)*) => {
        fn on_connect(
            context: &$crate::RequestContext,
            request: $crate::ConnectEvent,
        ) -> $crate::Result<$crate::Response> {
            $crate::__private::connect($function, context, request)
        }
    };
    ($key:tt => $function:expr, $($rest:tt)*) => { $crate::__connect_route! { $($rest)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __disconnect_route {
    () => {};
    ("$disconnect" => $function:expr, $($rest:tt)*) => {
        fn on_disconnect(
            context: &$crate::RequestContext,
            event: $crate::DisconnectEvent,
        ) -> $crate::Result<()> {
            $crate::__private::disconnect($function, context, event)
        }
    };
    ($key:tt => $function:expr, $($rest:tt)*) => { $crate::__disconnect_route! { $($rest)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __message_routes {
    ([$($route:tt $call:expr,)*]) => {
        fn on_message(
            context: &$crate::RequestContext,
            message: $crate::MessageEvent,
        ) -> $crate::Result<$crate::Response> {
            match context.route_key.as_str() {
                $($route => $crate::__private::message($call, context, message),)*
                route_key => $crate::__private::no_route(route_key, message),
            }
        }
    };
    ([$($done:tt)*] "$connect" => $function:expr, $($rest:tt)*) => {
        $crate::__message_routes! { [$($done)*] $($rest)* }
    };
    ([$($done:tt)*] "$disconnect" => $function:expr, $($rest:tt)*) => {
        $crate::__message_routes! { [$($done)*] $($rest)* }
    };
    ([$($done:tt)*] $key:tt => $function:expr, $($rest:tt)*) => {
        $crate::__message_routes! { [$($done)* $key $function,] $($rest)* }
    };
}

/// Calls the callback of the event; this is the contract's `handle`.
pub fn handle<P: Plugin>(context: &RequestContext, event: Event) -> Result<Response> {
    match event {
        Event::Connect(request) => P::on_connect(context, request),
        Event::Message(message) => P::on_message(context, message),
        Event::Disconnect(event) => {
            P::on_disconnect(context, event)?;
            Ok(Response::ok())
        }
    }
}

/// Calls the function of `$connect` in `routes!`.
pub fn connect<R: IntoResponse>(
    function: impl FnOnce(&RequestContext, ConnectEvent) -> R,
    context: &RequestContext,
    request: ConnectEvent,
) -> Result<Response> {
    function(context, request).into_response()
}

/// Calls the function of a message's route in `routes!`.
pub fn message<M: FromMessage, R: IntoResponse>(
    function: impl FnOnce(&RequestContext, M) -> R,
    context: &RequestContext,
    message: MessageEvent,
) -> Result<Response> {
    match M::from_message(message) {
        Ok(message) => function(context, message).into_response(),
        Err(bad) => Ok(bad.into()),
    }
}

/// Calls the function of `$disconnect` in `routes!`.
pub fn disconnect<R: IntoResponse>(
    function: impl FnOnce(&RequestContext, DisconnectEvent) -> R,
    context: &RequestContext,
    event: DisconnectEvent,
) -> Result<()> {
    function(context, event).into_response()?;
    Ok(())
}

/// Returns the error for a message whose route has no function in `routes!`. This is a mistake of the manifest or of the plugin, not of
/// the peer.
pub fn no_route(route_key: &str, _: MessageEvent) -> Result<Response> {
    Err(Error::from(format!("the manifest sends the route {route_key} to this plugin, which has no function for it")))
}
