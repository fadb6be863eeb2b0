//! The handshake and HTTP/1.1: RFC 6455, 9110 and 9112.

use crate::harness::Site;
use crate::wire::Wire;

const HOST: &str = "Host: localhost\r\n";

/// websockets/ws 1682, netty/netty 8664: IANA's registry of close codes has 1014, "Bad Gateway".
#[tokio::test]
async fn a_handler_may_close_with_1014() {
    let server = Site::hostile().serve();
    let mut closing = server.connect("").await;
    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    assert_eq!(closing.ask(&format!("close {id} 1014 upstream")).await, "closed");
    assert_eq!(wire.closed().await, (1014, "upstream".to_owned()));
    assert_eq!(server.wait_for_disconnect(&id).await, "1014 upstream");

    let mut wire = Wire::open(&server, "").await;
    let id = wire.ask("id").await;
    let request = format!(
        "DELETE /dev/@connections/{id} HTTP/1.1\r\n{HOST}Connection: close\r\nx-jackfield-close-code: 1014\r\n\r\n"
    );
    assert_eq!(server.http(&request).await.status, 204);
    assert_eq!(wire.closed().await, (1014, String::new()));
}
