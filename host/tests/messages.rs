//! A message, from the socket to its handler and back.

use crate::harness::{ECHO, Site, component, lean_echo, manifest};

#[tokio::test]
async fn a_message_comes_back_from_a_component_of_either_target() {
    for component in [component(ECHO), lean_echo()] {
        let server = Site::new(&manifest(&component, "", r#"grants = ["connections", "connection-store"]"#)).serve();
        let mut peer = server.connect("").await;
        assert_eq!(peer.ask(r#"{"action":"echo","content":"hello"}"#).await, "hello");
        assert_eq!(peer.ask("not JSON").await, "not JSON");
    }
}
