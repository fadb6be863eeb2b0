//! A guest that tries to reach more than the manifest lists: by redirects, and by names of private addresses.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};

use crate::backend::Backend;
use crate::harm::{Attack, site};
use crate::harness::{HOSTILE, HOSTILE_GRANTS, component};

fn grants(hosts: &str) -> String {
    let grants =
        HOSTILE_GRANTS.replace(r#"allowed_hosts = ["http://127.0.0.1:9"]"#, &format!("allowed_hosts = [{hosts}]"));
    assert_ne!(grants, HOSTILE_GRANTS);
    grants
}

async fn start(name: &'static str, hosts: &str) -> Attack {
    Attack::start(name, &component(HOSTILE), "", &grants(hosts)).await
}

/// The URL of a response that redirects to `location`.
fn redirect(server: &Backend, location: &str) -> String {
    let order: String = form_urlencoded::byte_serialize(format!("redirect {location}").as_bytes()).collect();
    format!("http://{}/?do={order}", server.address)
}

#[tokio::test]
async fn a_redirect_leads_a_guest_to_no_host_that_is_not_listed() {
    let (listed, private) = (Backend::start().await, Backend::start().await);
    let attack = start("redirects into private networks", &format!("\"http://{}\"", listed.address)).await;
    let mut peer = attack.server.connect("").await;
    let private_url = format!("http://{}/", private.address);
    // The host returns the redirect and does not follow it.
    let answer = peer.ask(&format!("fetch {}", redirect(&listed, &private_url))).await;
    assert!(answer.starts_with("302"), "{answer}");
    for location in [
        private_url,
        format!("http://localhost:{}/", private.address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", private.address.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/latest/meta-data/".to_owned(),
    ] {
        // A guest that follows the redirect sends a new request, which is checked like the first one.
        let answer = peer.ask(&format!("follow {}", redirect(&listed, &location))).await;
        assert_eq!(answer, "after 1 redirects: error: ErrorCode::HttpRequestDenied", "{location}");
    }
    assert!(private.take_requests().is_empty(), "a request reached a host that is not listed");
    attack.end(16).await;
}

#[tokio::test]
async fn a_listed_name_of_a_private_address_is_rejected_by_the_manifest_or_at_every_request() {
    let private = Backend::start().await;
    let port = private.address.port();
    // The resolver of the system returns 127.0.0.1 for each of these names, as a hostile name server could for any.
    for name in ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "app.localhost", "*.0.0.1"] {
        let keys = grants(&format!("\"http://{name}:{port}\""));
        let (code, _, stderr) = site(&component(HOSTILE), "", &keys).run(&["check"]);
        assert_eq!(code, 1, "{name}");
        assert!(stderr.contains("write its address") || stderr.contains("write an address in full"), "{stderr}");
    }
    // The manifest cannot know the address of this name, which most systems resolve to a private one.
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_ascii_lowercase();
    let attack =
        start("rebinding of names", &format!("\"http://{name}:{port}\", \"http://{name}.invalid:{port}\"")).await;
    let mut peer = attack.server.connect("").await;
    let addresses: Vec<SocketAddr> = (&*name, port).to_socket_addrs().map_or(Vec::new(), Iterator::collect);
    let is_private = !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback());
    for _ in 0..3 {
        let answer = peer.ask(&format!("fetch http://{name}:{port}/")).await;
        assert!(answer.starts_with("error: "), "{answer}");
        assert!(!is_private || answer == "error: ErrorCode::DestinationIpProhibited", "{answer}");
        let answer = peer.ask(&format!("fetch http://{name}.invalid:{port}/")).await;
        assert!(answer.starts_with("error: ErrorCode::Dns"), "{answer}");
    }
    assert!(private.take_requests().is_empty(), "a request reached a private address");
    attack.end(16).await;
}
