use hmac::{Hmac, KeyInit as _, Mac as _};
use jackfield_sdk::testing::Host;
use jackfield_sdk::{Decision, Result};
use sha2::Sha256;
use ticket::Ticket;

const KEY: &str = "0123456789abcdef0123456789abcdef";
/// The time of the test double's clock in seconds.
const NOW: u64 = 1_700_000_000;

fn sign(signed: &str, key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{signed}.{digits}")
}

fn decision(key: &str, query: &str) -> Result<Decision> {
    let host = Host::new();
    host.set_config("key", key);
    host.upgrade(query).authorize::<Ticket>()
}

#[test]
fn a_ticket_admits_its_name_until_it_expires() -> Result<()> {
    for (name, expires, expected) in [
        ("alice", NOW + 1, Decision::allow("alice").with("expires", "1700000001")),
        ("a.b", NOW + 60, Decision::allow("a.b").with("expires", "1700000060")),
        ("alice", NOW, Decision::Deny),
        ("alice", 0, Decision::Deny),
        ("alice", u64::MAX, Decision::allow("alice").with("expires", u64::MAX.to_string())),
    ] {
        let ticket = sign(&format!("{name}.{expires}"), KEY);
        assert_eq!(decision(KEY, &format!("?ticket={ticket}"))?, expected, "{ticket}");
    }
    Ok(())
}

#[test]
fn a_peer_without_a_valid_ticket_is_unauthorized() -> Result<()> {
    let good = sign(&format!("alice.{}", NOW + 60), KEY);
    for query in [
        String::new(),
        "?ticket=".to_owned(),
        format!("?ticket={}", good.replace("alice", "mallory")),
        format!("?ticket={}0", good),
        format!("?ticket={}", &good[..good.len() - 2]),
        format!("?ticket={}", sign(&format!("alice.{}", NOW + 60), "another key of 32 bytes, a secret")),
        format!("?ticket={}", sign("alice.never", KEY)),
        format!("?ticket={}", sign(&format!(".{}", NOW + 60), KEY)),
        format!("?ticket={}", "\u{20ac}".repeat(3)),
    ] {
        assert_eq!(decision(KEY, &query)?, Decision::Unauthorized, "{query}");
    }
    Ok(())
}

#[test]
fn a_missing_or_short_key_is_an_error() {
    for key in ["", &KEY[1..]] {
        let error = decision(key, "?ticket=x").unwrap_err();
        assert_eq!(error.to_string(), "config.key is missing or has less than 32 bytes");
    }
}
