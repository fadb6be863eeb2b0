//! A plugin, and how the contract's one `handle` becomes its callbacks.

use crate::{
    ConnectEvent, DisconnectEvent, Error, Event, FromMessage, IntoResponse, MessageEvent, RequestContext, Response,
    Result,
};

/// A route handler: three callbacks, each with a default.
///
/// It has no `self`: every event may find a fresh sandbox, so what is to be remembered goes into
/// the [connection store](crate::connection_store) or into a [bucket](crate::kv).
///
/// Make a component of it with [`export!`](crate::export).
pub trait Plugin {
    /// The route keys it answers, where it names them; [`routes!`](crate::routes) does. Empty means any.
    const ROUTES: &'static [&'static str] = &[];

    /// A peer asks to be let in. By default it is.
    ///
    /// The peer is admitted by a status from 200 to 299. Until then it can be sent nothing: a post
    /// to it from here is [`Gone`](crate::connections::ConnectionError::Gone).
    ///
    /// # Errors
    /// An `Err` refuses the peer with 502.
    fn on_connect(context: &RequestContext, request: ConnectEvent) -> Result<Response> {
        let _ = (context, request);
        Ok(Response::ok())
    }

    /// The peer sent a message. By default it is taken and not answered.
    ///
    /// The body of the answer goes back to the peer where the route has a route response.
    ///
    /// # Errors
    /// An `Err` tells the peer that there was an internal error, and the log which.
    fn on_message(context: &RequestContext, message: MessageEvent) -> Result<Response> {
        let _ = (context, message);
        Ok(Response::ok())
    }

    /// The connection is gone; its row in the connection store goes after this.
    ///
    /// # Errors
    /// An `Err` is logged.
    fn on_disconnect(context: &RequestContext, event: DisconnectEvent) -> Result<()> {
        let _ = (context, event);
        Ok(())
    }
}

/// Makes a [`Plugin`] the component's handler. Once in a crate, in its root or below.
///
/// On targets other than WebAssembly it does nothing, so that tests and tools can use the type.
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
                ) -> ::std::result::Result<$crate::Response, ::std::string::String> {
                    $crate::__private::handle::<$plugin>(&context, event)
                        .map_err(|error| ::std::string::ToString::to_string(&error))
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
///     /// Says what it is told.
///     pub struct Parrot;
///     "$connect" => admit,
///     "say" => say,
///     "$default" => unknown,
///     "$disconnect" => gone,
/// }
///
/// fn admit(_: &RequestContext, request: ConnectEvent) -> Result<Response> {
///     Ok(Response::status(if request.query("user").is_some() { 200 } else { 400 }))
/// }
///
/// fn say(_: &RequestContext, message: String) -> String {
///     message
/// }
///
/// fn unknown(_: &RequestContext, _: Payload) -> &'static str {
///     "say what?"
/// }
///
/// fn gone(context: &RequestContext, _: DisconnectEvent) {
///     log::info(format_args!("{} flew away", context.connection_id));
/// }
/// ```
///
/// The function of `$connect` takes a [`ConnectEvent`], that of `$disconnect` a
/// [`DisconnectEvent`], any other one whatever is [`FromMessage`]; each returns what
/// is [`IntoResponse`]. A route that is not named has the default of [`Plugin`].
#[macro_export]
macro_rules! routes {
    ($(#[$attribute:meta])* $visibility:vis struct $plugin:ident; $($key:tt => $function:expr),+ $(,)?) => {
        $(#[$attribute])*
        $visibility struct $plugin;

        impl $crate::Plugin for $plugin {
            const ROUTES: &'static [&'static str] = &[$($key),+];

            $crate::__route_of_connect! { $($key => $function,)+ }
            $crate::__routes_of_messages! { [] $($key => $function,)+ }
            $crate::__route_of_disconnect! { $($key => $function,)+ }
        }

        $crate::export!($plugin);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __route_of_connect {
    () => {};
    ("$connect" => $function:expr, $($rest:tt)*) => {
        fn on_connect(
            context: &$crate::RequestContext,
            request: $crate::ConnectEvent,
        ) -> $crate::Result<$crate::Response> {
            $crate::__private::connect($function, context, request)
        }
    };
    ($key:tt => $function:expr, $($rest:tt)*) => { $crate::__route_of_connect! { $($rest)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __route_of_disconnect {
    () => {};
    ("$disconnect" => $function:expr, $($rest:tt)*) => {
        fn on_disconnect(
            context: &$crate::RequestContext,
            event: $crate::DisconnectEvent,
        ) -> $crate::Result<()> {
            $crate::__private::disconnect($function, context, event)
        }
    };
    ($key:tt => $function:expr, $($rest:tt)*) => { $crate::__route_of_disconnect! { $($rest)* } };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __routes_of_messages {
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
        $crate::__routes_of_messages! { [$($done)*] $($rest)* }
    };
    ([$($done:tt)*] "$disconnect" => $function:expr, $($rest:tt)*) => {
        $crate::__routes_of_messages! { [$($done)*] $($rest)* }
    };
    ([$($done:tt)*] $key:tt => $function:expr, $($rest:tt)*) => {
        $crate::__routes_of_messages! { [$($done)* $key $function,] $($rest)* }
    };
}

/// The contract's `handle`, taken apart.
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

/// What `routes!` does with `$connect`.
pub fn connect<R: IntoResponse>(
    function: impl FnOnce(&RequestContext, ConnectEvent) -> R,
    context: &RequestContext,
    request: ConnectEvent,
) -> Result<Response> {
    function(context, request).into_response()
}

/// What `routes!` does with a route of messages.
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

/// What `routes!` does with `$disconnect`.
pub fn disconnect<R: IntoResponse>(
    function: impl FnOnce(&RequestContext, DisconnectEvent) -> R,
    context: &RequestContext,
    event: DisconnectEvent,
) -> Result<()> {
    function(context, event).into_response()?;
    Ok(())
}

/// The manifest sends a route here that the plugin does not name: somebody's mistake, but not the peer's.
pub fn no_route(route_key: &str, _: MessageEvent) -> Result<Response> {
    Err(Error::from(format!("the manifest sends the route {route_key} here, and no function of this plugin is for it")))
}
